import { Argument, Command } from 'commander';

import {
  fingerprintOf,
  HOST_KEYS_FOLDER,
  hostKeyPinKey,
  hostKeyPinSchema,
  parseHostKey,
  type HostKeyPin,
} from '../domain/host-key.ts';
import { printable } from '../domain/text.ts';
import type { ControllerState } from '../ports/controller-state.ts';
import { formatAge } from './age.ts';
import { CliError, type CliContext, type Ends, type ExitCode } from './context.ts';
import { printError } from './errors.ts';
import { addStoreOptions, withOpened } from './session.ts';
import { formatTable } from './table.ts';

export function hostkeyCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('hostkey')
    .summary('show the keys that hosts are known by, forget one, or pin another')
    .description(
      'A host is known by the key that it showed when plugset first logged in to it. One that shows another key is not talked\n' +
        'to (HostKeyMismatch), until somebody has found out why and has the old key forgotten. Where something vouches for a key\n' +
        'that is no longer right, as the console of an EC2 instance does, the right one can be pinned in its place.',
    )
    .addArgument(new Argument('<ACTION>', 'what to do').choices(['list', 'forget', 'pin']))
    .argument(
      '[HOST...]',
      'as the message of HostKeyMismatch and `hostkey list` name it; with pin, one, and its public key',
    )
    .addHelpText('after', HELP)
    .action(async (action: string, hosts: string[], _options: unknown, self: Command) =>
      ends(
        await withOpened(context, self, ({ state }) => ACTIONS[action as keyof typeof ACTIONS](context, state, hosts)),
      ),
    );
  return addStoreOptions(command);
}

const ACTIONS = { list, forget, pin } as const;

const HELP = `
Columns:
  VERIFIED  True: somebody vouched for the key, such as a known hosts file. False: it was there first.
  AGE       how long the host is known by it

Examples:
  plugset hostkey list
  plugset hostkey forget agents.example.com       after it was reinstalled
  plugset hostkey forget '[10.0.0.5]:2222'
  plugset hostkey pin i-0123456789abcdef0 "$(cat ssh_host_ed25519_key.pub)"     as the instance has it in /etc/ssh
  plugset reconcile alice                         have it looked at again at once

Exit codes: 0 shown, forgotten or pinned, 1 no such host is known, or that is no key.`;

async function list(context: CliContext, state: ControllerState, hosts: readonly string[]): Promise<ExitCode> {
  const all = await pinsIn(state, context.signal);
  const shown = hosts.length === 0 ? all : all.filter(({ name }) => hosts.includes(name));
  const now = context.clock.now();
  const rows = shown.flatMap(({ name, keys, verified, pinnedAtMs }) =>
    keys.map((key) => [
      printable(name),
      printable(key.type),
      fingerprintOf(key),
      verified ? 'True' : 'False',
      formatAge(new Date(pinnedAtMs).toISOString(), now),
    ]),
  );
  context.stdout.write(formatTable(['HOST', 'TYPE', 'FINGERPRINT', 'VERIFIED', 'AGE'], rows));
  const missing = hosts.filter((host) => !all.some(({ name }) => name === host));
  for (const host of missing) printError(context, unknownHost(host));
  return missing.length === 0 ? 0 : 1;
}

async function forget(context: CliContext, state: ControllerState, hosts: readonly string[]): Promise<ExitCode> {
  if (hosts.length === 0) throw new CliError('which host? Give its name, as `plugset hostkey list` shows it');
  let code: ExitCode = 0;
  for (const host of hosts) {
    if (await remove(state, hostKeyPinKey(host), context.signal)) {
      context.stdout.write(`host ${printable(host)}: its key is forgotten; the next contact is a first one\n`);
    } else {
      printError(context, unknownHost(host));
      code = 1;
    }
  }
  return code;
}

async function pin(context: CliContext, state: ControllerState, words: readonly string[]): Promise<ExitCode> {
  const [host, ...line] = words;
  const key = parseHostKey(line.join(' '));
  if (host === undefined || key === undefined)
    throw new CliError('which host, and which key? Give its name and its public key: ssh-ed25519 AAAA…');
  // Whoever gives the key vouches for it.
  const value: HostKeyPin = { name: host, keys: [key], verified: true, pinnedAtMs: context.clock.now() };
  await replace(state, hostKeyPinKey(host), value, context.signal);
  context.stdout.write(`host ${printable(host)}: known by ${key.type} ${fingerprintOf(key)} from now on\n`);
  return 0;
}

async function replace(state: ControllerState, key: string, value: HostKeyPin, signal: AbortSignal): Promise<void> {
  for (;;) {
    const document = await state.get(key, signal);
    if ((await state.compareAndSwap(key, document?.version, value, signal)) !== undefined) return;
  }
}

/** What cannot be read is left out: it can be forgotten all the same. */
async function pinsIn(state: ControllerState, signal: AbortSignal): Promise<readonly HostKeyPin[]> {
  const keys = await state.list(HOST_KEYS_FOLDER, signal);
  const documents = await Promise.all(keys.toSorted().map((key) => state.get(key, signal)));
  return documents.flatMap((document) => hostKeyPinSchema.safeParse(document?.value).data ?? []);
}

/** `false` when there is no such document. */
async function remove(state: ControllerState, key: string, signal: AbortSignal): Promise<boolean> {
  for (;;) {
    const document = await state.get(key, signal);
    if (document === undefined) return false;
    if (await state.remove(key, document.version, signal)) return true;
  }
}

function unknownHost(host: string): CliError {
  return new CliError(`no key is known of ${JSON.stringify(host)}; \`plugset hostkey list\` shows all`);
}
