import type { App, OwnerResult } from '../app.ts';
import { classifyError } from '../domain/errors.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { countOf, printable } from '../domain/text.ts';
import { mapAtOnce } from '../ports/map-at-once.ts';
import type { CliContext, ExitCode } from './context.ts';
import { printError } from './errors.ts';
import { notFound } from './workspaces.ts';

const LOOKS_AT_ONCE = 8;

/** Says what a takeover would take, from whom; looks at the targets and writes nothing anywhere. */
export async function previewTakeover(
  context: CliContext,
  app: App,
  keys: readonly WorkspaceKey[],
  from: string,
): Promise<ExitCode> {
  const results = await mapAtOnce(LOOKS_AT_ONCE, keys, async (key): Promise<OwnerResult | Error> => {
    try {
      const result = await app.ownerOf(key, context.signal);
      return result.kind === 'absent' ? await notFound(app.store, key, context.signal) : result;
    } catch (error) {
      context.signal.throwIfAborted();
      return classifyError(error);
    }
  });
  let taken = 0;
  let code: ExitCode = 0;
  for (const [index, result] of results.entries()) {
    if (result instanceof Error) {
      printError(context, result);
      code = 1;
      continue;
    }
    if (isTaken(result, from)) taken += 1;
    context.stdout.write(`workspace ${keys[index]}: ${printable(describe(result, from))}\n`);
  }
  context.stderr.write(`dry run: ${taken} of ${countOf(keys.length, 'target')} would be taken over from ${from}\n`);
  return code;
}

function isTaken(result: OwnerResult, from: string): boolean {
  return result.kind === 'looked' && !result.isOurs && result.authority === from;
}

function describe(result: OwnerResult, from: string): string {
  if (result.kind === 'malformed') return 'its declaration cannot be used, so its target is not known';
  if (result.kind !== 'looked') return 'is not looked at (suspended or external), and nothing is taken over';
  const { authority, installed, isOurs, target } = result;
  if (authority === undefined) return `${target} is managed by nobody: there is nothing to take over`;
  if (isOurs) return `${target} is managed by this controller already`;
  if (authority !== from) return `${target} is managed by ${authority}, not by ${from}: it is left to that`;
  const plugins =
    installed.length === 0 ? 'no plugin' : `${countOf(installed.length, 'plugin')}: ${installed.join(', ')}`;
  return `${target} would be taken over from ${from}, with ${plugins}`;
}
