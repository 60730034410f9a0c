import { describe, expect, it } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { until, type DaemonProcess } from './daemon-process.ts';
import { DirectoryFleet } from './directory-fleet.ts';
import { load, timed } from './measure.ts';
import { alone, renderTable, type Row } from './table.ts';

/** As many as are wanted, unless somebody has less time. */
const WORKSPACES = Number(process.env['PLUGSET_BENCH_WORKSPACES'] ?? 10_000);
const EDITED = 100;
/** First looks are not what is measured, and the pace of passes is as high as it gets; all else is as without settings. */
const SOON = ['--first-pass-rate', '100000', '--deep-interval', '12h'];

await withBackend('postgres', (postgres) => {
  describe('reach', () => {
    it('prints what a large fleet costs', { timeout: 7_200_000 }, async () => {
      const fleet = await DirectoryFleet.create(postgres);
      try {
        const rows = [...(await small(fleet)), ...(await large(fleet))];
        expect(rows).not.toEqual([]);
        process.stdout.write(`\n${renderTable(rows)}\n\n`);
      } finally {
        await fleet.close();
      }
    });
  });
});

let aloneMs = Number.NaN;

async function small(fleet: DirectoryFleet): Promise<readonly Row[]> {
  await fleet.growTo(EDITED + 1);
  const daemon = await started(fleet);
  try {
    aloneMs = await percentileOfEdits(fleet);
    return [alone(`${EDITED} workspaces edited in one statement, alone: converged, p95`, aloneMs, load())];
  } finally {
    await daemon.stop();
  }
}

async function large(fleet: DirectoryFleet): Promise<readonly Row[]> {
  const rows: Row[] = [];
  await fleet.growTo(WORKSPACES);
  const daemon = await started(fleet);
  try {
    for (let round = 0; round < 3; round++) rows.push(await fullPass(fleet, daemon));
    const { now, highest } = await daemon.memory();
    rows.push({
      ...alone(`resident memory with ${WORKSPACES} workspaces`, 0, `${now.toFixed(0)} MiB`),
      ours: `${highest.toFixed(0)} MiB at its highest`,
      wanted: { text: '<= 400 MiB', isMet: highest <= 400 },
    });
    const tookMs = await percentileOfEdits(fleet);
    rows.push({
      ...alone(`${EDITED} of ${WORKSPACES} edited in one statement: converged, p95`, tookMs, load()),
      wanted: { text: `<= 3 x alone`, isMet: tookMs <= 3 * aloneMs },
    });
  } finally {
    await daemon.stop();
  }
  rows.push(await firstEdit(fleet));
  return rows;
}

async function started(fleet: DirectoryFleet): Promise<DaemonProcess> {
  const daemon = await fleet.start(...SOON);
  const looked = 'plugset_looks_total{tier="deep",outcome="looked"}';
  await until('all were looked at', async () => (await daemon.sample(looked)) >= fleet.size);
  await fleet.untilAllReady();
  return daemon;
}

async function fullPass(fleet: DirectoryFleet, daemon: DaemonProcess): Promise<Row> {
  const unmoved = 'plugset_looks_total{tier="probe",outcome="unmoved"}';
  const before = await daemon.sample(unmoved);
  const cpuBefore = await daemon.processorSeconds();
  await fleet.loseNotifications();
  const tookMs = await timed(() =>
    until('all had a pass', async () => (await daemon.sample(unmoved)) >= before + fleet.size),
  );
  const cpu = (await daemon.processorSeconds()) - cpuBefore;
  return {
    ...alone(
      `full pass over ${fleet.size} workspaces x 10 plugins, nothing to do`,
      tookMs,
      `${cpu.toFixed(1)} s of processor; ${load()}`,
    ),
    tier: 'probe',
    wanted: { text: '<= 20 s', isMet: tookMs <= 20_000 },
  };
}

async function percentileOfEdits(fleet: DirectoryFleet): Promise<number> {
  const edit = await fleet.edit(EDITED);
  const sorted = (await edit.converged()).toSorted((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * 0.95) - 1] ?? Number.NaN;
}

/** With the settings that are there without any: after a start, passes over all are spread over minutes. */
async function firstEdit(fleet: DirectoryFleet): Promise<Row> {
  const edit = await fleet.edit(1);
  let daemon: DaemonProcess | undefined;
  const tookMs = await timed(async () => {
    daemon = await fleet.start();
    await edit.converged();
  });
  await daemon?.stop();
  return {
    ...alone(`start with ${fleet.size} to the first edit converged`, tookMs, load()),
    wanted: { text: '<= 5 s', isMet: tookMs <= 5000 },
  };
}
