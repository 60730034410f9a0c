import { terminal, type ReconcileError } from '../../domain/errors.ts';
import { traced, type PathTrace } from '../../ports/path-trace.ts';
import type { SshEndpoint } from '../../ports/ssh-endpoint.ts';
import type { RunAs } from '../../ports/workspace-target.ts';
import type { SshSession } from './session.ts';

/** What goes before a command so that it runs as somebody. */
export type Prefix = readonly string[];

/**
 * Tries, as the user who logged in, how to become uid $1 with gid $2, and prints the first way that works. Tried rather
 * than read off: what sudoers allows, and which of the tools there is, only the host knows. sudo gives the group of the
 * user by itself and lets most people name no other, hence both ways; root needs no sudo, and setpriv also knows ids that
 * have no name.
 */
const BECOME_SCRIPT = `
works() {
  [ "$("$@" sh -c 'echo "$(id -u):$(id -g)"' 2>/dev/null </dev/null)" = "$uid:$gid" ]
}
uid=$1 gid=$2
if works env; then echo direct
elif works sudo -n -u "#$uid" --; then echo sudo
elif works sudo -n -u "#$uid" -g "#$gid" --; then echo sudo-group
elif works setpriv --reuid="$uid" --regid="$gid" --clear-groups --; then echo setpriv
elif works sudo -n -- setpriv --reuid="$uid" --regid="$gid" --clear-groups --; then echo sudo-setpriv
elif [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then echo no-sudo
else echo refused
fi
`;

type Way = 'direct' | 'sudo' | 'sudo-group' | 'setpriv' | 'sudo-setpriv';

/** Runs a script that needs no rights, and answers what it printed. */
export type Ask = (script: string, args: readonly string[]) => Promise<string>;

/**
 * How to become whom, remembered as long as the connection stands. A refusal is not, for it may be corrected: whoever only
 * looks does without until the next connection, whoever writes asks again.
 */
export class Becoming {
  readonly #known = new WeakMap<SshSession, Map<string, Prefix>>();
  readonly #trace: PathTrace | undefined;

  constructor(trace?: PathTrace) {
    this.#trace = trace;
  }

  /** Throws `SudoRefused`, `ToolMissing` (terminal), and what `ask` throws. */
  async prefixFor(session: SshSession, endpoint: SshEndpoint, as: RunAs, ask: Ask): Promise<Prefix> {
    const { uid, gid } = as === 'observer' ? { uid: 0, gid: 0 } : as;
    const known = this.#known.get(session) ?? new Map<string, Prefix>();
    this.#known.set(session, known);
    const owner = `${uid}:${gid}`;
    // Apart from root, even where both are 0:0: an observer makes do with less, and nobody who writes may.
    const key = as === 'observer' ? as : owner;
    const found = known.get(key);
    if (found !== undefined) return found;
    const prefix = await traced(this.#trace, 'sudo', async (saw) => {
      saw({ from: endpoint.user, to: owner });
      const answer = (await ask(BECOME_SCRIPT, [String(uid), String(gid)])).trim();
      const way = prefixOf(answer, uid, gid);
      saw({ by: way === undefined ? (UNABLE[answer] ?? answer) : way.join(' ') || 'being that already' });
      if (way !== undefined) return way;
      if (as !== 'observer') throw refusal(answer, endpoint, owner);
      // A look as the user who logs in is better than none; it is only easier to forge.
      saw({ so: `looks are made as ${endpoint.user}` });
      return [];
    });
    known.set(key, prefix);
    return prefix;
  }
}

/** For people, of the answers that are no way. */
const UNABLE: Readonly<Record<string, string>> = {
  refused: 'nothing, as sudo does not allow it without a password',
  'no-sudo': 'nothing, as there is no sudo',
};

function prefixOf(answer: string, uid: number, gid: number): Prefix | undefined {
  const setpriv = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--'];
  const ways: Readonly<Record<Way, Prefix>> = {
    direct: [],
    sudo: ['sudo', '-n', '-u', `#${uid}`, '--'],
    'sudo-group': ['sudo', '-n', '-u', `#${uid}`, '-g', `#${gid}`, '--'],
    setpriv,
    'sudo-setpriv': ['sudo', '-n', '--', ...setpriv],
  };
  return Object.hasOwn(ways, answer) ? ways[answer as Way] : undefined;
}

function refusal(answer: string, { description, user }: SshEndpoint, owner: string): ReconcileError {
  if (answer === 'no-sudo')
    return terminal(
      'ToolMissing',
      `${description}: the files belong to ${owner}, and ${user} has no sudo to become that`,
    );
  return terminal(
    'SudoRefused',
    `${description}: ${user} may not become ${owner}, whose the files are, without a password`,
  );
}
