import { Command } from 'commander';

import type { App } from '../app.ts';
import { classifyError, terminal } from '../domain/errors.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { CliContext, Ends, ExitCode } from './context.ts';
import { printError } from './errors.ts';
import { formatDocument, listOf, outputOption, type Format } from './output.ts';
import { formatPlan, formatSummary, planData, planExitCode, type PlanOutcome } from './plan-view.ts';
import { addEngineOptions, withApp } from './session.ts';
import { paintFor } from './style.ts';
import { keysFrom, listKeys, namespaceOption, notFound } from './workspaces.ts';

interface PlanOptions {
  readonly namespace?: string;
  readonly output: Format;
}

export function planCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('plan')
    .summary('show what would be changed, and change nothing')
    .description(
      'Asks the sources, looks at the targets, and prints the changes that a pass would make now, with the declaration\n' +
        'that asks for each. Changes nothing, and needs no lease: it runs beside a daemon.',
    )
    .argument('[WORKSPACE...]', 'NAME or NAMESPACE/NAME; left out: all')
    .addOption(namespaceOption('only this namespace (a bare NAME without it: default)'))
    .addOption(outputOption())
    .addHelpText('after', HELP)
    .action(async (names: string[], options: PlanOptions, self: Command) =>
      ends(await withApp(context, self, 'client', (app) => plan(context, app, names, options))),
    );
  return addEngineOptions(command);
}

const HELP = `
Marks:
  + install   ~ replace (old → new)   ^ restore (what was edited on the target)   = adopt (equal, moves no bytes)
  - remove    ! failed or held back, with the reason

Examples:
  plugset plan                   everything
  plugset plan alice team-a/bob
  plugset plan -o json           the plan objects, each with its id

Exit codes: 0 nothing to do, 2 something would change, 1 something could not be worked out (whatever else would change).`;

async function plan(
  context: CliContext,
  app: App,
  names: readonly string[],
  { namespace, output }: PlanOptions,
): Promise<ExitCode> {
  const keys = names.length === 0 ? await listKeys(app.store, namespace, context.signal) : keysFrom(names, namespace);
  const isTable = output !== 'json' && output !== 'yaml';
  const paint = paintFor(context.stdout);
  const outcomes: PlanOutcome[] = [];
  let isSomeMissing = false;
  for (const key of keys) {
    const outcome = await planOne(app, key, context.signal);
    if (outcome === undefined) {
      isSomeMissing = true;
      printError(context, await notFound(app.store, key, context.signal));
      continue;
    }
    outcomes.push(outcome);
    if (outcome.kind === 'failed' && outcome.error.reason === 'Internal') printError(context, outcome.error);
    if (isTable) context.stdout.write(formatPlan(outcome, paint));
  }
  context.stdout.write(isTable ? formatSummary(outcomes) : formatDocument(listOf(outcomes.map(planData)), output));
  return isSomeMissing ? 1 : planExitCode(outcomes);
}

/** `undefined`: not declared. One workspace that cannot be looked at does not hide the plans of the others. */
async function planOne(app: App, key: WorkspaceKey, signal: AbortSignal): Promise<PlanOutcome | undefined> {
  try {
    const answer = await app.preview(key, signal);
    if (!('kind' in answer)) return { kind: 'planned', key, preview: answer };
    switch (answer.kind) {
      case 'absent':
        return undefined;
      case 'malformed':
        return { kind: 'failed', key, error: terminal('InvalidSpec', answer.problems.join('; ')) };
      case 'found':
        return {
          kind: 'idle',
          key,
          why: answer.workspace.suspend ? 'suspended; nothing is done' : 'external; it fetches for itself',
        };
    }
  } catch (error) {
    if (signal.aborted) throw error;
    return { kind: 'failed', key, error: classifyError(error) };
  }
}
