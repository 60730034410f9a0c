import type { App, LookResult, TargetOwner } from '../app.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { countOf, printable } from '../domain/text.ts';
import type { CliContext, ExitCode } from './context.ts';
import { printError } from './errors.ts';
import { notFound } from './workspaces.ts';

/** Says what a takeover would take, from whom; looks at the targets and writes nothing anywhere. */
export async function previewTakeover(
  context: CliContext,
  app: App,
  keys: readonly WorkspaceKey[],
  from: string,
): Promise<ExitCode> {
  const results = new Map<WorkspaceKey, LookResult<TargetOwner>>();
  await app.owners(keys, context.signal, (key, result) => results.set(key, result));
  let taken = 0;
  let code: ExitCode = 0;
  for (const key of keys) {
    const result = results.get(key) ?? { kind: 'absent' };
    if (result.kind === 'absent' || result.kind === 'failed') {
      printError(context, result.kind === 'failed' ? result.error : await notFound(app.store, key, context.signal));
      code = 1;
      continue;
    }
    if (isTaken(result, from)) taken += 1;
    context.stdout.write(`workspace ${key}: ${printable(describe(result, from))}\n`);
  }
  context.stderr.write(`dry run: ${taken} of ${countOf(keys.length, 'target')} would be taken over from ${from}\n`);
  return code;
}

type Told = Exclude<LookResult<TargetOwner>, { kind: 'absent' | 'failed' }>;

function isTaken(result: Told, from: string): boolean {
  return result.kind === 'looked' && !result.isOurs && result.authority === from;
}

function describe(result: Told, from: string): string {
  if (result.kind === 'malformed') return 'its declaration cannot be used, so its target is not known';
  if (result.kind === 'unseen') return `nothing is taken over, for nobody looks at it: ${result.why}`;
  const { authority, installed, isOurs, target } = result;
  if (authority === undefined) return `${target} is managed by nobody: there is nothing to take over`;
  if (isOurs) return `${target} is managed by this controller already`;
  if (authority !== from) return `${target} is managed by ${authority}, not by ${from}: it is left to that`;
  const plugins =
    installed.length === 0 ? 'no plugin' : `${countOf(installed.length, 'plugin')}: ${installed.join(', ')}`;
  return `${target} would be taken over from ${from}, with ${plugins}`;
}
