import { Command } from 'commander';

import type { App, LookResult, Preview } from '../app.ts';
import { terminal } from '../domain/errors.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { countOf } from '../domain/text.ts';
import type { CliContext, Ends, ExitCode } from './context.ts';
import { printError } from './errors.ts';
import { formatDocument, listOf, outputOption, type Format } from './output.ts';
import { patiently } from './patience.ts';
import { formatAdvice, formatPlan, formatSummary, planData, planExitCode, type PlanOutcome } from './plan-view.ts';
import { addEngineOptions, withApp } from './session.ts';
import { paintFor } from './style.ts';
import { allNamespacesOption, keysFrom, listKeys, namespaceOption, notFound, requireSome } from './workspaces.ts';

interface PlanOptions {
  readonly namespace?: string;
  readonly output: Format;
}

export function planCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('plan')
    .summary('show what would be changed, and change nothing')
    .description(
      'Asks the sources, looks at the targets, and prints the changes that a pass would make now, with the declaration\n' +
        'that asks for each, and whether the container is restarted then. Changes nothing, and needs no lease: it runs beside a\n' +
        'daemon.',
    )
    .argument('[WORKSPACE...]', 'NAME or NAMESPACE/NAME; left out: all')
    .addOption(
      namespaceOption('only this namespace (a bare NAME without it: default, in a cluster that of the context)'),
    )
    .addOption(allNamespacesOption())
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
  requireSome(keys, namespace);
  const outcomes = new Map<WorkspaceKey, PlanOutcome | 'absent'>();
  const rest = (): string => nameSome(keys.filter((key) => !outcomes.has(key)));
  const look = app.preview(keys, context.signal, (key, result) => outcomes.set(key, outcomeOf(key, result)));
  await patiently(context, rest, look);
  const planned: PlanOutcome[] = [];
  let isSomeMissing = false;
  for (const key of keys) {
    const outcome = outcomes.get(key);
    if (outcome === undefined || outcome === 'absent') {
      isSomeMissing = true;
      printError(context, await notFound(app.store, key, context.signal));
    } else planned.push(outcome);
  }
  printPlans(context, planned, output);
  return isSomeMissing ? 1 : planExitCode(planned);
}

function nameSome(keys: readonly WorkspaceKey[]): string {
  return keys.length > 3 ? countOf(keys.length, 'workspace') : keys.join(', ');
}

function printPlans(context: CliContext, outcomes: readonly PlanOutcome[], output: Format): void {
  for (const outcome of outcomes) {
    // Its plan says no more than that it is a fault; the stack is what helps.
    if (outcome.kind === 'failed' && outcome.error.reason === 'Internal') printError(context, outcome.error);
  }
  if (output === 'json' || output === 'yaml') {
    context.stdout.write(formatDocument(listOf(outcomes.map(planData)), output));
    return;
  }
  const paint = paintFor(context.stdout);
  context.stdout.write(
    outcomes.map((outcome) => formatPlan(outcome, paint)).join('') + formatAdvice(outcomes) + formatSummary(outcomes),
  );
}

function outcomeOf(key: WorkspaceKey, result: LookResult<Preview>): PlanOutcome | 'absent' {
  switch (result.kind) {
    case 'planned':
      return { kind: 'planned', key, preview: result };
    case 'failed':
      return { kind: 'failed', key, error: result.error };
    case 'absent':
      return 'absent';
    case 'malformed':
      return { kind: 'failed', key, error: terminal('InvalidSpec', result.problems.join('; ')) };
    case 'unseen':
      return { kind: 'idle', key, why: result.why };
  }
}
