import { SystemClock } from '../../src/adapters/system/clock.ts';
import { MemoryWorkQueue } from '../../src/controller/work-queue.ts';
import { recordingMetrics } from '../support/recording-metrics.ts';
import type { Backends } from './converged-workspace.ts';
import { timed } from './measure.ts';
import { benchPlatformRead } from './platform-read.ts';
import { alone, type Row } from './table.ts';
import { openWorkshop } from './workshop.ts';

const WORKSPACES = 10_000;
const KEYS = 100_000;

/** What a start with a large fleet costs before the first pass, and what the queue adds to each one. */
export async function benchScale(backends: Backends): Promise<readonly Row[]> {
  return [await listAndIntroduce(backends), ...(await benchPlatformRead(backends)), await passThroughQueue()];
}

async function listAndIntroduce({ docker, postgres }: Backends): Promise<Row> {
  const workshop = await openWorkshop({ docker, postgres, tier: 'deep' });
  try {
    await workshop.database.sql(
      `insert into plugset.workspaces (name, runtime, target)
       select 'fleet-' || n, 'claude-code', '{"docker": {}}' from generate_series(1, $1) n`,
      [WORKSPACES],
    );
    await workshop.database.sql(
      `insert into plugset.plugins (workspace, name, source)
       select 'fleet-' || n, 'plugin-' || p, 'plugin-' || p from generate_series(1, $1) n, generate_series(0, 4) p`,
      [WORKSPACES],
    );
    const tookMs = await timed(() => workshop.introduceAll());
    const perSecond = WORKSPACES / (tookMs / 1000);
    return alone(
      `start: list and introduce ${WORKSPACES} workspaces in Postgres`,
      tookMs,
      `${perSecond.toFixed(0)} a second`,
    );
  } finally {
    await workshop.close();
  }
}

async function passThroughQueue(): Promise<Row> {
  const metrics = {
    ...recordingMetrics(),
    queueAdded: nothing,
    queueWaited: nothing,
    worked: nothing,
    observeQueue: nothing,
  };
  const queue = new MemoryWorkQueue<string>({ clock: new SystemClock(), metrics, laneOf: (key) => key.slice(0, 2) });
  const keys = Array.from({ length: KEYS }, (_, index) => `${index % 10}-${index}`);
  const tookMs = await timed(async () => {
    for (const key of keys) queue.add(key);
    for (let left = KEYS; left > 0; left--) {
      const item = await queue.get();
      if (item !== undefined) queue.done(item.key);
    }
  });
  queue.shutDown();
  return alone('work queue: add, get, done, per key', tookMs / KEYS, `${KEYS} keys ready at once`);
}

function nothing(): void {
  // Recording 400,000 calls would be what is measured.
}
