import { describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';

import type { App, LookResult } from '../../../src/app.ts';
import { transient } from '../../../src/domain/errors.ts';
import type { PluginName, WorkspaceKey } from '../../../src/domain/name.ts';
import type { Survey } from '../../../src/reconcile/dry-looks.ts';
import type { CliOptions, CliRun } from '../../support/run-cli.ts';
import { CliBench, manifest } from './fixtures.ts';

/** What is on targets, for a store in memory: one managed plugin, and one of which nobody knows where it is from. */
class ImportBench extends CliBench {
  readonly unreachable = new Set<string>();

  import(argv: readonly string[], options: CliOptions = {}): Promise<CliRun> {
    const app = {
      store: this.store,
      survey: this.looks((key, signal) => this.#survey(key, signal)),
      close: async () => undefined,
    } as unknown as App;
    return this.run(['import', ...argv], { ...options, openApp: async () => app });
  }

  async #survey(key: WorkspaceKey, signal: AbortSignal): Promise<LookResult<Survey>> {
    const loaded = await this.store.get(key, signal);
    if (loaded.kind !== 'found' || loaded.workspace.suspend) return this.unseen(key, signal);
    if (this.unreachable.has(key)) throw transient('Unreachable', `${key} does not answer`);
    const common = { version: undefined, revision: undefined, edited: false };
    return {
      kind: 'surveyed',
      workspace: loaded.workspace,
      status: loaded.status,
      plugins: [
        { ...common, name: 'notes' as PluginName, managed: true, source: 'local://notes' },
        { ...common, name: 'old' as PluginName, managed: false, source: undefined },
        { ...common, name: 'lint' as PluginName, managed: false, source: undefined, unlike: 'local://lint' },
      ],
    };
  }
}

function namesIn(stdout: string): readonly unknown[] {
  return parseAllDocuments(stdout).map((document) => document.getIn(['metadata', 'name']));
}

describe('import', () => {
  const fleet = (): ImportBench => {
    const bench = new ImportBench();
    for (const name of ['carol', 'alice', 'bob']) bench.declare(manifest(name));
    bench.declare(manifest('dave', {}, 'team-a'));
    return bench;
  };

  it('prints one workspace as one document', async () => {
    const { code, stdout, stderr } = await fleet().import(['alice']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^apiVersion: /);
    expect(stdout).toContain('#    - {name: old, source: …}');
    expect(stdout).toContain('#    - {name: lint, source: …} # local://lint has other files');
    expect(stderr).toBe('no source is known of old, lint: left as comments at the end\n');
  });

  it('prints JSON, which apply takes back', async () => {
    const { stdout, stderr } = await fleet().import(['alice', '-o', 'json']);
    expect(JSON.parse(stdout)).toMatchObject({
      kind: 'Workspace',
      metadata: { name: 'alice' },
      spec: { plugins: [{ name: 'notes', source: 'local://notes' }] },
    });
    expect(stderr).toBe('no source is known of old, lint: left out\n');
    const all = JSON.parse((await fleet().import(['--all', '-o', 'json'])).stdout);
    expect(all).toMatchObject({ kind: 'List', items: { length: 4 } });
  });

  it('prints several, each a document of its own, in the order in which they were named', async () => {
    const { code, stdout, stderr } = await fleet().import(['carol', 'team-a/dave']);
    expect(code).toBe(0);
    expect(namesIn(stdout)).toEqual(['carol', 'dave']);
    expect(parseAllDocuments(stdout).flatMap((document) => document.errors)).toEqual([]);
    expect(stderr).toContain('team-a/dave: no source is known of old');
    expect((await fleet().import(['bob', '-n', 'team-a'])).stderr).toContain('did you mean default/bob?');
  });

  it('prints a namespace, or all, and passes over whom nobody looks at', async () => {
    const bench = fleet();
    bench.declare(manifest('bob', { suspend: true }));
    const all = await bench.import(['--all']);
    expect(all.code).toBe(0);
    expect(namesIn(all.stdout)).toEqual(['alice', 'carol', 'dave']);
    expect(all.stderr).toContain('workspace default/bob is not looked at: ');
    expect(namesIn((await bench.import(['-n', 'team-a'])).stdout)).toEqual(['dave']);
    expect(await bench.import(['bob']), 'who names it wants it').toMatchObject({ code: 1, stdout: '' });
  });

  it('goes on when one cannot be looked at, says so and ends with 1', async () => {
    const bench = fleet();
    bench.unreachable.add('default/bob');
    const { code, stdout, stderr } = await bench.import(['--all']);
    expect(code).toBe(1);
    expect(namesIn(stdout)).toEqual(['alice', 'carol', 'dave']);
    expect(stderr).toContain('error: default/bob does not answer (Unreachable)');
  });

  it('tells how far it is on a terminal', async () => {
    const bench = fleet();
    expect((await bench.import(['--all'], { isTerminal: true })).stderr).toMatch(
      /^1\/4 team-a\/dave: 3 plugins\n2\/4 /,
    );
    expect((await bench.import(['--all'])).stderr).not.toContain('1/4');
  });

  it.each([
    [[], /which workspaces\? Give their names, --namespace/],
    [['alice', '--all'], /give names, or --all/],
    [['-n', 'nobody'], /no workspaces are declared in namespace nobody/],
  ])('refuses %j', async (argv, problem) => {
    expect(await fleet().import(argv)).toMatchObject({ code: 1, stderr: expect.stringMatching(problem) });
  });
});
