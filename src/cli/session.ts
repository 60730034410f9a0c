import type { Command } from 'commander';

import type { App } from '../app.ts';
import { configFrom, configOf, gatherSettings, notifyingConfigOf, storeConfigFrom, type Config } from '../config.ts';
import { settingOptions } from '../config/options.ts';
import type { Leadership } from '../ports/leadership.ts';
import type { WorkspaceStore } from '../ports/workspace-store.ts';
import type { OpenedStore, StoreRole } from '../stores.ts';
import type { CliContext } from './context.ts';
import { printWarning } from './errors.ts';
import { narrowed } from './home-namespace.ts';

export function addStoreOptions(command: Command): Command {
  return addOptions(command, 'store');
}

export function addEngineOptions(command: Command): Command {
  return addOptions(command, 'engines');
}

export function addDaemonOptions(command: Command): Command {
  return addOptions(command, 'daemon');
}

/** Commands that print results log to standard error, and only what a person has to know. */
const QUIET_LEVEL: Config['logLevel'] = 'warn';

/** {@link withOpened} for those who need no more than the store. */
export async function withStore<T>(
  context: CliContext,
  command: Command,
  use: (store: WorkspaceStore, leadership: Pick<Leadership, 'lastHolder'>) => Promise<T>,
  role: StoreRole = 'client',
  takesPart?: boolean,
): Promise<T> {
  return withOpened(context, command, ({ store, leadership }) => use(store, leadership), role, takesPart);
}

/**
 * Opens what the options name as the store, and closes it whatever happens. A configuration that is wrong elsewhere is
 * warned of. Where it does not take part of one, that is an error: for what makes a store, and for what would act on
 * another policy than the operator's.
 */
export async function withOpened<T>(
  context: CliContext,
  command: Command,
  use: (opened: OpenedStore, config: Config) => Promise<T>,
  role: StoreRole = 'client',
  takesPart: boolean = role === 'client',
): Promise<T> {
  const config = takesPart ? storeConfig(context, command) : configFrom(command.opts(), QUIET_LEVEL);
  const store = role === 'controller' ? config : narrowed(config, command);
  const opened = await context.openStore(store, context.createLogger(config.logLevel, 'stderr'), role);
  try {
    if (opened.notice !== undefined) context.stderr.write(`${opened.notice}\n`);
    return await use(opened, config);
  } finally {
    await opened.close();
  }
}

function storeConfig(context: CliContext, command: Command): Config {
  const { config, problems } = storeConfigFrom(command.opts(), QUIET_LEVEL);
  for (const problem of problems) printWarning(context, `${problem}; this command does without it`);
  return config;
}

/** The same with everything that reaches targets and sources. */
export async function withApp<T>(
  context: CliContext,
  command: Command,
  role: StoreRole,
  use: (app: App) => Promise<T>,
  level = QUIET_LEVEL,
): Promise<T> {
  const gathered = gatherSettings(command.opts(), level);
  const config = role === 'controller' ? notifyingConfigOf(gathered) : narrowed(configOf(gathered), command);
  const app = await context.openApp(config, context.createLogger(config.logLevel, 'stderr'), role);
  try {
    return await use(app);
  } finally {
    await app.close();
  }
}

function addOptions(command: Command, of: Parameters<typeof settingOptions>[0]): Command {
  for (const option of settingOptions(of)) command.addOption(option);
  return command;
}
