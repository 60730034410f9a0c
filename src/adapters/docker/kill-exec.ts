import type Docker from 'dockerode';

import type { Deadline } from '../../ports/deadline.ts';
import { statusOf, type DockerEngine } from './engine.ts';
import { execute } from './exec.ts';

/** Name of the environment variable by which the processes of one run are known; children inherit it. */
export const RUN_MARK = 'PLUGSET_RUN';

const AGAIN_MS = 50;

export interface MarkedExec {
  readonly containerId: string;
  readonly exec: Docker.Exec;
  readonly user: string;
  readonly mark: string;
}

/*
 * No call of the Docker API ends an exec, and the pid it reports is the engine's, of no use to a client elsewhere. So the
 * processes are found from within, by the mark in their environment: this also finds children that made a session of
 * their own. It runs as the same user as the command: root without CAP_SYS_PTRACE, as containers have it, may not read
 * the environment of another user's processes. `read` drops the NULs between entries, and so the mark is a word that
 * occurs nowhere else. Killing may race with a fork, hence the rounds.
 */
const KILL_SCRIPT = `
round=0
while [ "$round" -lt 50 ]; do
  found=
  for process in /proc/[0-9]*; do
    while IFS= read -r line || [ -n "$line" ]; do
      case $line in
        *"$1"*) found=1; kill -9 "\${process#/proc/}"; break ;;
      esac
    done <"$process/environ"
  done 2>/dev/null
  [ -n "$found" ] || exit 0
  round=$((round + 1))
done
exit 1
`;

/**
 * Kills the processes of an exec, those that carry `mark`, and waits until the engine says it has ended. `false` when that
 * was not to be had before the deadline. Looks more than once, since a kill may come before the engine has started the
 * command that we broke off.
 */
export async function killExec(engine: DockerEngine, target: MarkedExec, deadline: Deadline): Promise<boolean> {
  const { containerId, exec, user, mark } = target;
  try {
    for (;;) {
      await execute(engine, containerId, ['sh', '-c', KILL_SCRIPT, 'sh', mark], { user, env: [] }, deadline);
      const info = await engine.ask('exec_inspect', deadline.signal, (_docker, abortSignal) =>
        exec.inspect({ abortSignal }),
      );
      if (!info.Running) return true;
      await engine.clock.sleep(AGAIN_MS, deadline.signal);
    }
  } catch (error) {
    // The engine forgets an exec with its container.
    return statusOf(error) === 404;
  }
}
