import type { RunOptions, RunResult, WorkspaceTarget } from '../../src/ports/workspace-target.ts';

/*
 * A directory of programs that stand before the real ones and end the whole run, with SIGKILL to its process group,
 * before or after the nth of them.
 */

/** `set -C` makes `>` exclusive, so that commands of one pipeline get numbers of their own. */
const SHIM = `here=\${0%/*}
set -C
n=1
until echo "\${0##*/}" 2>/dev/null >"$here/count/$n"; do n=$((n + 1)); done
read -r at when <"$here/at"
if [ "$n" = "$at" ]; then
  [ "$when" = before ] || "$here/real/\${0##*/}" "$@"
  kill -9 0
fi
exec "$here/real/\${0##*/}" "$@"`;

export type Moment = 'before' | 'after';

export interface KillSwitchOptions {
  /** Runs a script as root where the commands to be killed will run. */
  readonly shell: (script: string) => Promise<string>;
  /** Programs to stand before, by name; a missing one is left missing. */
  readonly tools: readonly string[];
  /** Where the real ones are. */
  readonly real: string;
  /** Absolute path of a shell to run the shims. */
  readonly interpreter: string;
  /** To be made, absolute, without anything that a shell would read. */
  readonly dir: string;
  /** A shell that prefers its own applets to any PATH; it does let functions stand before them. */
  readonly appletsWin: boolean;
}

export class KillSwitch {
  readonly #options: KillSwitchOptions;
  readonly #tools: readonly string[];

  private constructor(options: KillSwitchOptions, tools: readonly string[]) {
    this.#options = options;
    this.#tools = tools;
  }

  static async install(options: KillSwitchOptions): Promise<KillSwitch> {
    const { dir, interpreter, real, shell, tools } = options;
    const found = await shell(`mkdir -p ${dir}/real ${dir}/bin
      cat >${dir}/bin/shim <<'SHIM'
#!${interpreter}
${SHIM.replaceAll('$here', dir)}
SHIM
      chmod 755 ${dir} ${dir}/real ${dir}/bin ${dir}/bin/shim
      for tool in ${tools.join(' ')}; do
        [ -e ${real}/$tool ] || continue
        ln -s "$(readlink -f ${real}/$tool)" ${dir}/real/$tool && ln -s shim ${dir}/bin/$tool
        echo $tool
      done`);
    return new KillSwitch(options, found.trim().split('\n'));
  }

  /** The programs it stands before. */
  get tools(): readonly string[] {
    return this.#tools;
  }

  /** Script for `shell`: the next run ends at this command, counted from 1; never for 0. */
  arm(command: number, moment: Moment): string {
    const { dir } = this.#options;
    // The agent's user counts here.
    return `rm -rf ${dir}/count; mkdir -m 777 ${dir}/count; echo ${command} ${moment} >${dir}/at\n`;
  }

  /** Script for `shell`: prints a line for each command that was started since. */
  get report(): string {
    return `ls ${this.#options.dir}/count\n`;
  }

  /** Script for `shell`: prints their names, in any order. */
  get names(): string {
    return `cat ${this.#options.dir}/count/*\n`;
  }

  /** The same target, for runs that this ends. */
  doom(target: WorkspaceTarget): WorkspaceTarget {
    const { appletsWin, dir } = this.#options;
    const functions = this.#tools.map((tool) => `${tool}() { ${dir}/bin/${tool} "$@"; }\n`).join('');
    const doomed = (script: string): string =>
      // `exec` goes past functions.
      appletsWin ? functions + script.replaceAll(/\bexec (?=tar )/g, '') : `PATH=${dir}/bin\n${script}`;
    return {
      identity: target.identity,
      description: target.description,
      probe: (configDir, signal) => target.probe(configDir, signal),
      run: ([sh = '', c = '', script = '', ...args]: readonly string[], options: RunOptions): Promise<RunResult> =>
        target.run([sh, c, doomed(script), ...args], options),
    };
  }
}
