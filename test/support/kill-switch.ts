import { chmod, mkdir, readdir, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/*
 * A directory of programs that stand before the real ones and end the whole run, with SIGKILL to its process group,
 * before or after the nth of them.
 */

/** `set -C` makes `>` exclusive, so that commands of one pipeline get numbers of their own. */
const SHIM = `#!/bin/dash
here=\${0%/*}
set -C
n=1
until true 2>/dev/null >"$here/count/$n"; do n=$((n + 1)); done
read -r at when <"$here/at"
if [ "$n" = "$at" ]; then
  [ "$when" = before ] || "$here/real/\${0##*/}" "$@"
  kill -9 0
fi
exec "$here/real/\${0##*/}" "$@"
`;

export type Moment = 'before' | 'after';

export class KillSwitch {
  /** The PATH of runs that this ends. */
  readonly bin: string;

  private constructor(bin: string) {
    this.bin = bin;
  }

  /** Stands before every program in `real`, a directory of links; the shell itself is not counted. */
  static async install(real: string, bin: string): Promise<KillSwitch> {
    await mkdir(join(bin, 'real'), { recursive: true });
    await writeFile(join(bin, 'shim'), SHIM, { mode: 0o755 });
    for (const name of await readdir(real)) {
      const program = await readlink(join(real, name));
      await symlink(program, join(bin, 'real', name));
      await symlink(name === 'sh' ? program : 'shim', join(bin, name));
    }
    return new KillSwitch(bin);
  }

  /** The next run ends at this command, counted from 1; never for 0. */
  async arm(command: number, moment: Moment): Promise<void> {
    const count = join(this.bin, 'count');
    await rm(count, { recursive: true, force: true });
    await mkdir(count);
    // The agent's user counts here.
    await chmod(count, 0o777);
    await writeFile(join(this.bin, 'at'), `${command} ${moment}\n`);
  }

  /** Commands that were started since `arm`. */
  async counted(): Promise<number> {
    return (await readdir(join(this.bin, 'count'))).length;
  }
}
