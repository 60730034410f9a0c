import { describe, expect, it } from 'vitest';

import type { App, LookResult, TargetOwner } from '../../../src/app.ts';
import { stateKey } from '../../../src/domain/state-key.ts';
import { transient } from '../../../src/domain/errors.ts';
import type { PluginName, WorkspaceKey } from '../../../src/domain/name.ts';
import type { CliRun } from '../../support/run-cli.ts';
import { CliBench, manifest } from './fixtures.ts';

/** Who manages each target, for a store in memory. */
class OwnerBench extends CliBench {
  readonly owners = new Map<string, string | undefined>();

  owned(name: string, authority: string | undefined): void {
    this.owners.set(this.declare(manifest(name)), authority);
  }

  takeover(...argv: readonly string[]): Promise<CliRun> {
    const app = {
      store: this.store,
      owners: this.looks((key, signal) => this.#ownerOf(key, signal)),
      close: async () => undefined,
    } as unknown as App;
    return this.run(['takeover', ...argv], { openApp: async () => app });
  }

  async #ownerOf(key: WorkspaceKey, signal: AbortSignal): Promise<LookResult<TargetOwner>> {
    const authority = this.owners.get(key);
    if (authority === 'silent') throw transient('Unreachable', `${key} does not answer`);
    if (!this.owners.has(key)) return this.unseen(key, signal);
    const installed = ['maps', 'notes'] as PluginName[];
    return { kind: 'looked', target: `target of ${key}`, authority, installed, isOurs: authority === 'us' };
  }
}

describe('takeover --dry-run', () => {
  it('says what would be taken over from whom, and writes nothing', async () => {
    const bench = new OwnerBench();
    bench.owned('alice', 'gone');
    bench.owned('bob', 'us');
    bench.owned('carol', 'another');
    bench.owned('dave', undefined);
    bench.declare(manifest('erin', { suspend: true }));
    const { code, stdout, stderr } = await bench.takeover('--all', '--from', 'gone', '--dry-run');
    expect(stdout).toBe(`\
workspace default/alice: target of default/alice would be taken over from gone, with 2 plugins: maps, notes
workspace default/bob: target of default/bob is managed by this controller already
workspace default/carol: target of default/carol is managed by another, not by gone: it is left to that
workspace default/dave: target of default/dave is managed by nobody: there is nothing to take over
workspace default/erin: nothing is taken over, for nobody looks at it: spec.suspend is true; nothing is looked at or changed
`);
    expect({ code, stderr }).toEqual({ code: 0, stderr: 'dry run: 1 of 5 targets would be taken over from gone\n' });
    for (const key of bench.backend.rows.keys())
      expect(await bench.state.get(stateKey('takeover', key), new AbortController().signal)).toBeUndefined();
    expect([...bench.backend.rows.values()].map(({ manifest: { metadata } }) => metadata.annotations)).toEqual(
      Array.from({ length: 5 }, () => undefined),
    );
  });

  it('ends with 1 where one is not declared or does not answer, and tells of the others', async () => {
    const bench = new OwnerBench();
    bench.owned('alice', 'gone');
    bench.owned('bob', 'silent');
    const { code, stdout, stderr } = await bench.takeover('alice', 'bob', 'nobody', '--from', 'gone', '--dry-run');
    expect(code).toBe(1);
    expect(stdout).toMatch(/^workspace default\/alice: target of default\/alice would be taken over from gone/);
    expect(stderr).toContain('error: default/bob does not answer (Unreachable)');
    expect(stderr).toContain('error: workspace default/nobody is not declared');
  });
});
