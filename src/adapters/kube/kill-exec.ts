import { randomBytes } from 'node:crypto';

import type { RunAs } from '../../ports/workspace-target.ts';
import { Deadline } from '../../ports/deadline.ts';
import { execute, type ContainerPlace } from './exec.ts';
import type { KubeClient } from './kube-client.ts';
import { KubeRefusal } from './kube-refusal.ts';

/** A connection that does not answer so long is given up, and another one tried. */
const ANSWER_MS = 2_500;
const AGAIN_MS = 50;

/*
 * Closing an exec ends nothing in the container, and there is no call that does. So the processes are found by the mark in their
 * environment, as the user they run as; of one that has not come so far the mark is among the arguments. `read` drops the
 * NULs between entries, and so the mark is a word that occurs nowhere else. It comes on stdin, or this would find
 * itself. Killing may race with a fork, hence the rounds.
 */
const KILL_SCRIPT = `
read -r mark || exit 1
round=0
while [ "$round" -lt 50 ]; do
  found=
  for process in /proc/[0-9]*; do
    for list in "$process/environ" "$process/cmdline"; do
      while IFS= read -r line || [ -n "$line" ]; do
        case $line in
          *"$mark"*) found=1; kill -9 "\${process#/proc/}"; break ;;
        esac
      done <"$list"
    done
  done 2>/dev/null
  [ -n "$found" ] || exit 0
  round=$((round + 1))
done
exit 1
`;

/** Kills what carries the mark of a run. `false` when that was not to be had before the deadline. */
export async function killExec(
  client: KubeClient,
  place: ContainerPlace,
  run: { readonly as: RunAs; readonly mark: string },
  deadline: Deadline,
): Promise<boolean> {
  while (!deadline.signal.aborted) {
    if (await killOnce(client, place, run, deadline)) return true;
    // Where it cannot be reached now, it may be in a moment.
    await client.clock.sleep(AGAIN_MS, deadline.signal).catch(() => undefined);
  }
  return false;
}

async function killOnce(
  client: KubeClient,
  place: ContainerPlace,
  { as, mark }: { readonly as: RunAs; readonly mark: string },
  deadline: Deadline,
): Promise<boolean> {
  const answer = new Deadline(client.clock, ANSWER_MS, deadline.signal);
  try {
    const options = { as, mark: randomBytes(16).toString('hex'), stdin: lineOf(mark) };
    const end = await execute(client, place, ['sh', '-c', KILL_SCRIPT], options, answer);
    // What ran in a pod is gone with it.
    if (end.kind === 'unsent') return end.error instanceof KubeRefusal && end.error.status === 404;
    return end.kind === 'exited' && end.code === 0;
  } finally {
    answer.clear();
  }
}

async function* lineOf(text: string): AsyncGenerator<Buffer> {
  yield Buffer.from(`${text}\n`);
}
