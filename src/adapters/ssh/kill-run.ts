import { randomBytes } from 'node:crypto';

import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { SshEndpoint } from '../../ports/ssh-endpoint.ts';
import type { Prefix } from './become.ts';
import { execute } from './execute.ts';
import type { Lease, SessionPool } from './session-pool.ts';

/** Name of the environment variable by which the processes of one run are known; children inherit it. */
export const RUN_MARK = 'PLUGSET_RUN';

/** A connection that does not answer so long is given up, and another one tried. */
const ANSWER_MS = 2_000;
const AGAIN_MS = 50;
/** sshd may have room again in a moment: it counts a session that has ended until it has buried its process. */
const NO_ROOM = 4;

/*
 * Closing a channel ends nothing on the host, and sshd passes signals on to one process at most. So the processes are
 * found by the mark in their environment, as the user they run as. `read` drops the NULs between entries, and so the mark
 * is a word that occurs nowhere else. It comes on stdin: sudo puts the arguments of a command into its environment, and
 * this one would find itself. Killing may race with a fork, hence the rounds.
 */
const KILL_SCRIPT = `
read -r mark || exit 1
round=0
while [ "$round" -lt 50 ]; do
  found=
  for process in /proc/[0-9]*; do
    while IFS= read -r line || [ -n "$line" ]; do
      case $line in
        *"$mark"*) found=1; kill -9 "\${process#/proc/}"; break ;;
      esac
    done <"$process/environ"
  done 2>/dev/null
  [ -n "$found" ] || exit 0
  round=$((round + 1))
done
exit 1
`;

export interface MarkedRun {
  readonly endpoint: SshEndpoint;
  readonly prefix: Prefix;
  readonly mark: string;
  /** Settles when the channel of the run is closed. */
  readonly closed: Promise<unknown>;
}

/**
 * Kills what carries the mark of a run. `false` when that was not to be had before the deadline. As long as the channel is
 * open it is done again: the login shell may not have come to the command yet.
 */
export async function killRun(pool: SessionPool, clock: Clock, run: MarkedRun, deadline: Deadline): Promise<boolean> {
  let isClosed = false;
  void run.closed.then(() => (isClosed = true));
  let unsent = 0;
  while (!deadline.signal.aborted) {
    const onUnsent = ({ retire }: Lease): void => {
      // There is room on another connection; on this one, whatever else runs goes on.
      if ((unsent += 1) % NO_ROOM === 0) retire();
    };
    const isDone = await killOnce(pool, clock, { ...run, onUnsent }, deadline).catch(() => false);
    if (isDone && isClosed) return true;
    // Where the host cannot be reached now, it may be in a moment.
    await clock.sleep(AGAIN_MS, deadline.signal).catch(() => undefined);
  }
  return false;
}

interface Attempt extends MarkedRun {
  readonly onUnsent: (lease: Lease) => void;
}

async function killOnce(pool: SessionPool, clock: Clock, run: Attempt, deadline: Deadline): Promise<boolean> {
  const lease = await pool.lease(run.endpoint, 'kills', deadline.signal);
  const { session, release } = lease;
  const answer = new Deadline(clock, ANSWER_MS, deadline.signal);
  try {
    const argv = [...run.prefix, 'sh', '-c', KILL_SCRIPT];
    const options = { mark: randomBytes(16).toString('hex'), stdin: lineOf(run.mark) };
    const end = await execute(session, argv, options, answer);
    // The other ends say nothing against the connection, on which others have commands too.
    if (end.kind === 'lost') session.fault();
    if (end.kind === 'unsent') run.onUnsent(lease);
    return end.kind === 'exited' && end.code === 0;
  } finally {
    answer.clear();
    release();
  }
}

async function* lineOf(text: string): AsyncGenerator<Buffer> {
  yield Buffer.from(`${text}\n`);
}
