import { transient } from '../domain/errors.ts';
import { STATE_DIRECTORY } from '../domain/layout.ts';
import type { HostPlace } from '../ports/plugin-host.ts';

const DEADLINE_MS = 15_000;

/** Only plugset writes there, so nothing of it moves between the two questions. Without the device: one share has many. */
const STAMP = 'if [ -e "$1" ]; then exec stat -c "%i %Z" "$1"; else echo none; fi';

/**
 * Whether two places are one directory: a volume that two containers have mounted, a path that leads into another one.
 * What is taken away in the one would be gone in the other.
 */
export async function isSameDirectory(one: HostPlace, other: HostPlace, signal: AbortSignal): Promise<boolean> {
  if (one.target.identity === other.target.identity && one.configDir === other.configDir) return true;
  const stamp = await stampOf(one, signal);
  return stamp !== 'none' && stamp === (await stampOf(other, signal));
}

async function stampOf({ target, configDir }: HostPlace, signal: AbortSignal): Promise<string> {
  const path = configDir.startsWith('/') ? `${configDir}/${STATE_DIRECTORY}` : `./${configDir}/${STATE_DIRECTORY}`;
  const result = await target.run(['sh', '-c', STAMP, 'sh', path], { as: 'observer', deadlineMs: DEADLINE_MS, signal });
  const stamp = result.kind === 'exited' && result.code === 0 ? result.stdout.toString().trim() : '';
  if (stamp !== '') return stamp;
  throw transient('ObserveFailed', `${target.description}: ${path} could not be looked at`);
}
