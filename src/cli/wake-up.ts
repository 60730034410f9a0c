import type { Config } from '../config.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { countOf } from '../domain/text.ts';
import { parseWakeUp, type WaitCause, type WakeUp } from '../domain/wake-up.ts';
import { formatDuration } from './age.ts';
import type { CliContext } from './context.ts';

/** What is known of the next passes over a workspace. */
export interface Schedule {
  /** What the controller says; `undefined`: it did not answer, or another one did. */
  readonly wakeUp: WakeUp | undefined;
  /** Where it was asked: `127.0.0.1:9464`; `undefined`: nobody leads, so nobody was. */
  readonly askedAt: string | undefined;
  /** Authority of another store, whose controller answered there. */
  readonly other?: string | undefined;
  /** The intervals that this command was configured with; the controller may have others. */
  readonly probeIntervalMs: number;
  readonly deepIntervalMs: number;
}

type ScheduleConfig = Pick<Config, 'listen' | 'probeIntervalMs' | 'deepIntervalMs'>;

/**
 * Asks the controller that leads when it works on a workspace next. The times live in its memory: in the store they would
 * be a write for every pass. `authority`: of the store; whoever else listens there is not meant.
 */
export async function readSchedule(
  context: CliContext,
  key: WorkspaceKey,
  leader: { readonly isLeading: boolean; readonly authority: string | undefined },
  { listen, probeIntervalMs, deepIntervalMs }: ScheduleConfig,
): Promise<Schedule> {
  if (!leader.isLeading) return { wakeUp: undefined, askedAt: undefined, probeIntervalMs, deepIntervalMs };
  const { host, port } = listen;
  const askedAt = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  const answer = await context.askDaemon(listen, `/wakeup?workspace=${encodeURIComponent(key)}`);
  const wakeUp = answer?.status === 200 ? parseWakeUp(answer.body) : undefined;
  const schedule = { askedAt, probeIntervalMs, deepIntervalMs };
  if (wakeUp === undefined || wakeUp.authority === leader.authority) return { ...schedule, wakeUp };
  return { ...schedule, wakeUp: undefined, other: wakeUp.authority };
}

/** When its next pass is and why; nothing where nobody said. */
export function wakeUpLines({ wakeUp }: Schedule): readonly string[] {
  if (wakeUp === undefined) return [];
  const { queue, failures, deepInMs } = wakeUp;
  switch (queue.state) {
    case 'working':
      return ['A pass over it is under way right now.'];
    case 'ready':
      return ['Its next pass begins as soon as a worker is free.'];
    case 'absent':
      return ['No pass is due; an edit, a request or an event of its target brings one.'];
    case 'delayed': {
      const after = queue.cause === 'retry' ? ` after ${countOf(failures, 'failure')} in a row` : '';
      const first = `Its next pass is in about ${formatDuration(queue.inMs)}: ${CAUSES[queue.cause]}${after}.`;
      const isSoon = deepInMs === undefined || deepInMs <= queue.inMs;
      const deep = isSoon ? 'It looks at every file.' : `Every file is looked at in about ${formatDuration(deepInMs)}.`;
      return [first, deep];
    }
  }
}

const CAUSES: Readonly<Record<WaitCause, string>> = {
  look: 'the regular look',
  restart: 'the restart that takes its changes up, or what that waits for',
  retry: 'it is tried again',
  wait: 'in case an event was missed',
  reprobe: 'in case somebody has put it right',
  resync: 'everything is looked at now and then',
};

/** The intervals of looks at what is as declared, and on whose word. `isHost`: nothing there is cheaper than a look at every file. */
export function intervalsLine(schedule: Schedule, isHost: boolean): string {
  const { wakeUp, askedAt, other, probeIntervalMs, deepIntervalMs } = schedule;
  const probe = formatDuration(probeIntervalMs);
  const intervals = isHost
    ? `Every file of it is looked at every ${probe}`
    : `It is looked at every ${probe}, and every file of it every ${formatDuration(deepIntervalMs)}`;
  if (wakeUp !== undefined) return `${intervals}.`;
  const silent = other === undefined ? 'it did not say' : `there the controller of another store answers, ${other}`;
  const asked = askedAt === undefined ? '' : `; ${silent} (asked at ${askedAt}: telemetry.listen)`;
  return `${intervals}, if the controller has the same settings${asked}.`;
}
