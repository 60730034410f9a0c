import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, describe, expect, it } from 'vitest';

import { askDaemon } from '../../src/adapters/telemetry/http-client.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { wakeUpSchema } from '../../src/domain/wake-up.ts';
import { API_VERSION } from '../../src/domain/workspace.ts';
import { eventually } from '../support/eventually.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

/** What `plugset explain` asks the daemon for. */
describe('the next pass over a workspace', () => {
  let plugset: Plugset | undefined;
  afterEach(async () => {
    await plugset?.stop();
  });

  it('is known to the daemon that leads, with its cause', async () => {
    const running = await startPlugset({
      store: { kind: 'files' },
      config: { probeIntervalMs: 60_000, deepIntervalMs: 600_000 },
    });
    plugset = running;
    const home = join(running.dirs.root, 'alice');
    await mkdir(home);
    await writePlugin(join(running.dirs.registry, 'one'), { 'SKILL.md': 'one\n' });
    await running.app.store.apply(
      {
        apiVersion: API_VERSION,
        kind: 'Workspace',
        metadata: { name: 'alice' },
        spec: {
          runtime: 'hermes',
          target: { directory: { path: home } },
          plugins: [{ name: 'one', source: 'one' }],
        },
      },
      AbortSignal.timeout(60_000),
    );
    await running.untilReady('alice');
    const { hostname: host, port } = new URL(await running.metricsUrl());
    const ask = async (key: string): Promise<unknown> => {
      const path = `/wakeup?workspace=${encodeURIComponent(key)}`;
      const signal = new AbortController().signal;
      const answer = await askDaemon({ host, port: Number(port) }, path, new SystemClock(), signal);
      expect(answer?.status).toBe(200);
      return wakeUpSchema.parse(JSON.parse(answer?.body ?? ''));
    };
    // Everything also comes up in the first round after the start, which may be earlier than the regular look.
    const known = await eventually(async () => {
      const answer = wakeUpSchema.parse(await ask('default/alice'));
      if (answer.queue.state !== 'delayed' || answer.queue.cause !== 'look') throw new Error(JSON.stringify(answer));
      return { ...answer, queue: answer.queue };
    });
    expect(known.failures).toBe(0);
    expect(known.queue.inMs).toBeGreaterThan(0);
    expect(known.queue.inMs).toBeLessThanOrEqual(66_000);
    expect(await ask('default/nobody')).toMatchObject({ queue: { state: 'absent' } });
  });

  it('is not known where nobody listens', async () => {
    const nobody = { host: '127.0.0.1', port: 1 };
    expect(await askDaemon(nobody, '/wakeup', new SystemClock(), new AbortController().signal)).toBeUndefined();
  });
});
