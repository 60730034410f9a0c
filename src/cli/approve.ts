import { Command } from 'commander';

import type { WorkspaceKey } from '../domain/name.ts';
import { printable } from '../domain/text.ts';
import type { OpenedStore } from '../stores.ts';
import { CliError, type CliContext } from './context.ts';
import { grant } from './grant.ts';
import { addStoreOptions, withOpened } from './session.ts';
import { keysFrom, namespaceOption, notFound } from './workspaces.ts';

interface ApproveOptions {
  readonly namespace?: string;
}

export function approveCommand(context: CliContext): Command {
  const command = new Command('approve')
    .summary('agree to the changes that a workspace waits with')
    .description(
      'Agrees to one plan of one workspace: what policy.mode Plan waits with, or what a guard holds back because it removes\n' +
        'much at once. Exactly that plan is carried out, and one time: if the declaration, a source or the target has\n' +
        'changed meanwhile, nothing is done and the new plan waits. Written where plugset keeps what it remembers, which\n' +
        'whoever writes declarations need not be able to write; good for a day.',
    )
    .argument('<WORKSPACE>', 'NAME or NAMESPACE/NAME')
    .argument('<PLAN>', 'its id as `plugset status` and `plugset explain` show it; the first 12 digits are enough')
    .addOption(namespaceOption('namespace of a bare NAME (default: default)'))
    .addHelpText('after', HELP)
    .action((name: string, plan: string, options: ApproveOptions, self: Command) =>
      withOpened(context, self, (opened) => approve(context, opened, name, plan, options)),
    );
  return addStoreOptions(command);
}

const HELP = `
Examples:
  plugset explain alice                        what waits, and the id of the plan
  plugset approve alice sha256:3f2a9c51e0d4    agree to it

Exit codes: 0 agreed; the daemon carries it out within moments, 1 that plan is not what waits.`;

async function approve(
  context: CliContext,
  opened: OpenedStore,
  name: string,
  given: string,
  { namespace }: ApproveOptions,
): Promise<void> {
  const { store } = opened;
  const [key] = keysFrom([name], namespace);
  if (key === undefined) throw new CliError('which workspace?');
  const loaded = await store.get(key, context.signal);
  if (loaded.kind === 'absent') throw await notFound(store, key, context.signal);
  const { planId, held } = loaded.status;
  if (held === undefined || planId === undefined)
    throw new CliError(`workspace ${key} waits with nothing: there is no plan to agree to`);
  if (!isMeant(given, planId)) throw wrongPlan(key, given, planId, held.changes);
  if (!(await grant(context, opened, key, 'approval', planId))) throw await notFound(store, key, context.signal);
  const changes = held.changes.map((change) => `  ${printable(change)}\n`).join('');
  context.stdout.write(`workspace ${key}: plan ${planId.slice(0, 19)} approved\n${changes}`);
}

const SHORTEST = 12;

function isMeant(given: string, planId: string): boolean {
  const digits = given.replace(/^sha256:/, '');
  return digits.length >= SHORTEST && planId.replace(/^sha256:/, '').startsWith(digits);
}

function wrongPlan(key: WorkspaceKey, given: string, planId: string, changes: readonly string[]): CliError {
  return new CliError(
    `plan ${given} is not what workspace ${key} waits with; that is ${planId}: ${printable(changes.join(', '))}`,
  );
}
