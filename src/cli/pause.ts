import { Command } from 'commander';

import { describePause, PAUSE_KEY, pauseOrigin, type Pause } from '../domain/fleet.ts';
import { printable } from '../domain/text.ts';
import { REQUESTED_AT_ANNOTATION } from '../domain/workspace.ts';
import type { ControllerState } from '../ports/controller-state.ts';
import { mapAtOnce } from '../ports/map-at-once.ts';
import type { WorkspaceStore } from '../ports/workspace-store.ts';
import type { CliContext } from './context.ts';
import { addStoreOptions, withOpened } from './session.ts';
import { whoAmI } from './who-am-i.ts';

interface PauseOptions {
  readonly reason?: string;
}

export function pauseCommand(context: CliContext): Command {
  const command = new Command('pause')
    .summary('change nothing anywhere until `plugset resume`')
    .description(
      'Pauses the whole fleet: targets are looked at and reported on as before, and nothing is installed, restored or\n' +
        'removed on any of them. What is under way ends. Kept in the store, so a restart of the daemon changes nothing.',
    )
    .option('--reason <text>', 'for whoever wonders, shown with every workspace that waits')
    .addHelpText('after', PAUSE_HELP)
    .action((options: PauseOptions, self: Command) =>
      withOpened(context, self, ({ state }) => pause(context, state, options)),
    );
  return addStoreOptions(command);
}

export function resumeCommand(context: CliContext): Command {
  const command = new Command('resume')
    .summary('end a pause')
    .description('Ends a pause of the fleet. Whatever waits is carried out at once.')
    .addHelpText('after', RESUME_HELP)
    .action((_options: unknown, self: Command) =>
      withOpened(context, self, ({ state, store }) => resume(context, state, store)),
    );
  return addStoreOptions(command);
}

const PAUSE_HELP = `
Examples:
  plugset pause --reason 'incident 4711'
  plugset status                          Paused where something waits
  plugset resume

Exit codes: 0 the fleet is paused, 1 that could not be written.`;

const RESUME_HELP = `
Examples:
  plugset resume

Exit codes: 0 the fleet is not paused, 1 that could not be written.`;

async function pause(context: CliContext, state: ControllerState, { reason = '' }: PauseOptions): Promise<void> {
  for (;;) {
    const document = await state.get(PAUSE_KEY, context.signal);
    if (document !== undefined)
      return context.stdout.write(`already so: ${printable(describePause(document.value))}\n`);
    const value: Pause = { since: new Date(context.clock.now()).toISOString(), by: whoAmI(), reason };
    // Somebody else may have paused it in between: look again.
    if ((await state.compareAndSwap(PAUSE_KEY, undefined, value, context.signal)) === undefined) continue;
    return context.stdout.write('the fleet is paused: nothing is changed on any target until `plugset resume`\n');
  }
}

async function resume(context: CliContext, state: ControllerState, store: WorkspaceStore): Promise<void> {
  for (;;) {
    const document = await state.get(PAUSE_KEY, context.signal);
    if (document === undefined) return context.stdout.write('the fleet is not paused\n');
    if (!(await state.remove(PAUSE_KEY, document.version, context.signal))) continue;
    context.stdout.write(`resumed; the fleet was paused${printable(pauseOrigin(document.value))}\n`);
    return wake(context, store);
  }
}

/** What waited goes on now, and not at its next look. */
async function wake(context: CliContext, store: WorkspaceStore): Promise<void> {
  const requestedAt = `${new Date(context.clock.now()).toISOString()} resumed`;
  await mapAtOnce(READS_AT_ONCE, await store.list(context.signal), async (key) => {
    const loaded = await store.get(key, context.signal);
    const waits = loaded.kind === 'found' && loaded.status.held?.reason === 'Paused';
    if (waits) await store.annotate(key, { [REQUESTED_AT_ANNOTATION]: requestedAt }, context.signal);
  });
}

const READS_AT_ONCE = 16;
