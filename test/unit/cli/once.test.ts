import { describe, expect, it } from 'vitest';

import type { App, OnceEvents, OnceResult } from '../../../src/app.ts';
import { aborted, waiting } from '../../../src/domain/errors.ts';
import type { WorkspaceKey } from '../../../src/domain/name.ts';
import { whenAborted } from '../../../src/ports/abort.ts';
import type { CliOptions, CliRun } from '../../support/run-cli.ts';
import { CliBench, manifest, READY, statusWith } from './fixtures.ts';

const alice = 'default/alice' as WorkspaceKey;
const bob = 'default/bob' as WorkspaceKey;
const ready: OnceResult = { key: alice, status: READY, error: undefined };

async function once(
  results: readonly OnceResult[],
  args: readonly string[] = [],
  options: CliOptions = {},
  unread: ReadonlyMap<string, string> = new Map(),
): Promise<CliRun & { asked: readonly WorkspaceKey[] | undefined }> {
  const bench = new CliBench();
  for (const name of ['alice', 'bob']) bench.declare(manifest(name));
  let asked: readonly WorkspaceKey[] | undefined;
  const store = Object.assign(bench.store, { unread: () => unread });
  const app = {
    store,
    once: async (keys: readonly WorkspaceKey[] | undefined, _signal: AbortSignal, events: OnceEvents) => {
      asked = keys;
      events.onStandby?.('host-7');
      events.onLeading?.(keys ?? results.map(({ key }) => key));
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

  it('passes over what can be read, and ends with 1 where a namespace cannot', async () => {
    const unread = new Map([['fleet', 'HTTP 403 Forbidden']]);
    const run = await once([ready], [], {}, unread);
    expect(run.stdout).toMatch(/alice +True +Succeeded/);
    expect(run.stderr).toContain(
      'error: namespace fleet cannot be read, so no workspace in it was looked at: HTTP 403 Forbidden\n',
    );
    expect(run.code).toBe(1);
    expect(await once([ready], ['-n', 'default'], {}, unread)).toMatchObject({ code: 0 });
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

  describe('--timeout', () => {
    /** A run that never ends by itself; `progress` is what it tells before it is ended. */
    async function timeout(progress: (events: OnceEvents) => void, args: readonly string[] = []): Promise<CliRun> {
      const bench = new CliBench();
      const app = {
        store: bench.store,
        once: async (_keys: unknown, signal: AbortSignal, events: OnceEvents) => {
          progress(events);
          const ended = whenAborted(signal);
          await bench.clock.advance(90_000);
          await ended;
          throw aborted('ended by the test', signal.reason);
        },
        close: async () => void (bench.closed += 1),
      } as unknown as App;
      const run = await bench.run(['once', '--timeout', '90s', ...args], { openApp: async () => app });
      expect(bench.closed).toBe(1);
      return run;
    }

    const begun = (events: OnceEvents): void => {
      events.onLeading?.([alice, bob, 'default/carol' as WorkspaceKey]);
      events.onBegin?.(alice);
      events.onBegin?.(bob);
      events.onResult?.(ready);
    };

    it('shows what is done, what was still under way and what had not begun, and fails', async () => {
      const run = await timeout(begun);
      expect(run.code).toBe(1);
      expect(run.stderr).toBe(
        'error: the time is up (--timeout 90s): still under way: default/bob; not begun: 1 more\n',
      );
      expect(run.stdout).toMatch(/alice +True +Succeeded/);
      expect(run.stdout).toMatch(/bob +Unknown +Progressing +- +its pass was under way and was ended when the time/);
      expect(run.stdout).toMatch(/carol +Unknown +Progressing +- +its pass had not begun/);
    });

    it('says the same as data', async () => {
      const { items } = JSON.parse((await timeout(begun, ['-o', 'json'])).stdout) as { items: readonly unknown[] };
      expect(items).toMatchObject([
        { metadata: { name: 'alice' }, status: { summary: '1/1' } },
        { metadata: { name: 'bob' }, error: { class: 'aborted', reason: 'Progressing' } },
        { metadata: { name: 'carol' }, error: { message: expect.stringContaining('had not begun') } },
      ]);
    });

    it('also ends the wait for the lease, and says who holds it', async () => {
      const run = await timeout((events) => events.onStandby?.('host-7'));
      expect(run).toMatchObject({ code: 1, stdout: '' });
      expect(run.stderr).toContain(
        'error: the time is up (--timeout 90s): host-7 still holds the lease; nothing was done',
      );
    });

    it('takes a duration and nothing else', async () => {
      const run = await once([ready], ['--timeout', 'soon']);
      expect(run).toMatchObject({ code: 1, asked: undefined });
      expect(run.stderr).toContain('give a number with s, m or h');
    });
  });
});
