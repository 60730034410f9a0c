import { describe, expect, it } from 'vitest';

import type { App, OnceEvents, OnceResult } from '../../../src/app.ts';
import { waiting } from '../../../src/domain/errors.ts';
import type { WorkspaceKey } from '../../../src/domain/name.ts';
import type { CliOptions, CliRun } from '../../support/run-cli.ts';
import { CliBench, manifest, READY, statusWith } from './fixtures.ts';

const alice = 'default/alice' as WorkspaceKey;
const bob = 'default/bob' as WorkspaceKey;
const ready: OnceResult = { key: alice, status: READY, error: undefined };

async function once(
  results: readonly OnceResult[],
  args: readonly string[] = [],
  options: CliOptions = {},
): Promise<CliRun & { asked: readonly WorkspaceKey[] | undefined }> {
  const bench = new CliBench();
  for (const name of ['alice', 'bob']) bench.declare(manifest(name));
  let asked: readonly WorkspaceKey[] | undefined;
  const app = {
    store: bench.store,
    once: async (keys: readonly WorkspaceKey[] | undefined, _signal: AbortSignal, events: OnceEvents) => {
      asked = keys;
      events.onStandby?.('host-7');
      for (const result of results) events.onResult?.(result);
      return results;
    },
    close: async () => undefined,
  } as unknown as App;
  const run = await bench.run(['once', ...args], { openApp: async () => app, ...options });
  return { ...run, asked };
}

describe('once', () => {
  it('ends with 0 when every workspace is ready', async () => {
    const run = await once([ready]);
    expect(run).toMatchObject({
      code: 0,
      asked: undefined,
      stderr: 'waiting for the lease, which host-7 holds (a daemon? plugset reconcile NAME --wait asks it)\n',
    });
    expect(run.stdout).toMatch(
      /^NAMESPACE +NAME +READY +REASON +PLUGINS +MESSAGE\ndefault +alice +True +Succeeded +1\/1 +1 of 1 plugins/,
    );
  });

  it('ends with 1 when one is not, and shows why', async () => {
    const error = waiting('WorkspaceNotRunning', 'container ws-bob is stopped', 1000);
    const status = statusWith([['Ready', 'False', 'WorkspaceNotRunning', error.message]], { summary: '0/1' });
    const run = await once([{ key: bob, status, error }, ready]);
    expect(run.code).toBe(1);
    expect(run.stdout.split('\n')[1]).toMatch(/alice/);
    expect(run.stdout).toMatch(/bob +False +WorkspaceNotRunning +0\/1 +container ws-bob is stopped\n/);
  });

  it('takes a suspended or pulling workspace, and one that was cleaned up and is gone, for done', async () => {
    const suspended = statusWith([['Ready', 'Unknown', 'Suspended', 'spec.suspend is true']]);
    const run = await once([
      { key: alice, status: suspended, error: undefined },
      { key: bob, status: undefined, error: undefined },
    ]);
    expect(run.code).toBe(0);
    expect(run.stdout).toMatch(/alice +Unknown +Suspended/);
    expect(run.stdout).toMatch(/bob +- +Deleted/);
  });

  it('tells of each as it ends, on a terminal', async () => {
    const run = await once([ready], [], { isTerminal: true });
    expect(run.stderr).toContain('default/alice: \u001b[32mok\u001b[39m 1 of 1 plugins as declared\n');
  });

  it('passes over the named ones only, and refuses one that is not declared before it does anything', async () => {
    expect((await once([ready], ['alice'])).asked).toEqual([alice]);
    expect((await once([ready], ['-n', 'default'])).asked).toEqual([alice, bob]);
    const refused = await once([ready], ['alice', 'nobody']);
    expect(refused).toMatchObject({ code: 1, stdout: '', asked: undefined });
    expect(refused.stderr).toContain('error: workspace default/nobody is not declared');
  });

  it('gives the results as data', async () => {
    const error = waiting('WorkspaceNotFound', 'no container', 1000);
    const run = await once([{ key: bob, status: READY, error }], ['-o', 'json']);
    expect(JSON.parse(run.stdout)).toMatchObject({
      kind: 'List',
      items: [
        {
          metadata: { namespace: 'default', name: 'bob' },
          status: { summary: '1/1' },
          error: { class: 'waiting', reason: 'WorkspaceNotFound', message: 'no container' },
        },
      ],
    });
  });
});
