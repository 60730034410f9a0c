import type { Command } from 'commander';

import { ConfigError, storeConfigFrom, type Config } from '../config.ts';
import { parseWorkspaceKey, splitWorkspaceKey } from '../domain/name.ts';
import type { CliContext } from './context.ts';

/**
 * A bare name, and a list, are of the namespace of the context where a cluster is the store, as kubectl has it; `-n` and `-A`
 * say otherwise. What is not one command's to say (which namespaces plugset reads at all) is the configuration's.
 */
export async function assumeNamespace(context: CliContext, command: Command): Promise<void> {
  const { namespace, allNamespaces } = command.opts<{ namespace?: string; allNamespaces?: boolean }>();
  const has = (name: string): boolean => command.options.some((option) => option.attributeName() === name);
  const isOfFiles = command.registeredArguments.some((argument) => argument.name().startsWith('FILE'));
  const isMeant = command.args.length > 0 ? !isOfFiles : has('allNamespaces') || has('filename');
  if (!has('kubernetes') || !has('namespace') || !isMeant || namespace !== undefined || allNamespaces === true) return;
  const config = configOrNone(command);
  if (config?.store.kind !== 'kubernetes') return;
  const { namespaces } = config.store;
  const home = namespaces === undefined ? await context.homeNamespace(config) : soleOf(namespaces);
  if (home !== undefined) command.setOptionValue('namespace', home);
}

/** The part of a cluster that a command is about: whoever may read no more can use it, and nobody waits for the rest. */
export function narrowed(config: Config, command: Command): Config {
  const { store } = config;
  const { namespace } = command.opts<{ namespace?: string }>();
  if (store.kind !== 'kubernetes' || namespace === undefined) return config;
  const named = command.args.filter((arg) => arg.includes('/')).map(parseWorkspaceKey);
  const others = named.flatMap((key) => (key === undefined ? [] : [splitWorkspaceKey(key).namespace]));
  return { ...config, store: { ...store, namespaces: [...new Set([namespace, ...others])] } };
}

function soleOf(namespaces: readonly string[]): string | undefined {
  return namespaces.length === 1 ? namespaces[0] : undefined;
}

/** What is wrong with it is told by the command itself. */
function configOrNone(command: Command): Config | undefined {
  try {
    return storeConfigFrom(command.opts()).config;
  } catch (error) {
    if (error instanceof ConfigError) return undefined;
    throw error;
  }
}
