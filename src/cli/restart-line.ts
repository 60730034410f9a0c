import type { RestartForecast } from '../domain/status.ts';
import { printable } from '../domain/text.ts';

/** Whoever agrees to a change of a running container wants to know before whether it ends in a restart. */
export function restartLine(target: string, restart: RestartForecast | undefined): string {
  if (restart === undefined) return '';
  if (restart.follows) return `  then restarts ${printable(target)}, once nothing changes for a moment\n`;
  const why =
    restart.reason === 'RestartNever'
      ? 'the runtime takes changes up when somebody restarts it (policy.restart: Never)'
      : `${restart.reason}: ${printable(restart.message)}`;
  return `  no restart follows: ${why}\n`;
}
