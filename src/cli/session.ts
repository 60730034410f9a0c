import type { Command, Option } from 'commander';

import type { App, StoreRole } from '../app.ts';
import { configFrom, daemonOptions, engineOptions, storeOptions, type Config } from '../config.ts';
import type { WorkspaceStore } from '../ports/workspace-store.ts';
import type { CliContext } from './context.ts';

/** Commands that print results log to standard error, and only what a person has to know. */
const QUIET_LEVEL: Config['logLevel'] = 'warn';

export function addStoreOptions(command: Command, level: Config['logLevel'] = QUIET_LEVEL): Command {
  const options = storeOptions().map((option) =>
    option.attributeName() === 'logLevel' ? option.default(level) : option,
  );
  return addOptions(command, 'Where workspaces are declared:', options);
}

export function addEngineOptions(command: Command, level: Config['logLevel'] = QUIET_LEVEL): Command {
  return addOptions(addStoreOptions(command, level), 'Targets and sources:', engineOptions());
}

export function addDaemonOptions(command: Command): Command {
  return addOptions(addEngineOptions(command, 'info'), 'Daemon:', daemonOptions());
}

/** Opens the store that the options name, and closes it whatever happens. */
export async function withStore<T>(
  context: CliContext,
  command: Command,
  use: (store: WorkspaceStore) => Promise<T>,
): Promise<T> {
  const config = configFrom(command.opts());
  const opened = await context.openStore(config, context.createLogger(config.logLevel, 'stderr'));
  try {
    return await use(opened.store);
  } finally {
    await opened.close();
  }
}

/** The same with everything that reaches targets and sources. */
export async function withApp<T>(
  context: CliContext,
  command: Command,
  role: StoreRole,
  use: (app: App) => Promise<T>,
): Promise<T> {
  const config = configFrom(command.opts());
  const app = await context.openApp(config, context.createLogger(config.logLevel, 'stderr'), role);
  try {
    return await use(app);
  } finally {
    await app.close();
  }
}

function addOptions(command: Command, heading: string, options: readonly Option[]): Command {
  for (const option of options) command.addOption(option.helpGroup(heading));
  return command;
}
