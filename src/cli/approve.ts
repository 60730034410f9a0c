import { Command } from 'commander';

import { splitWorkspaceKey, type WorkspaceKey } from '../domain/name.ts';
import type { Hold } from '../domain/status.ts';
import { countOf, printable } from '../domain/text.ts';
import type { OpenedStore } from '../stores.ts';
import { CliError, type CliContext, type Ends, type ExitCode } from './context.ts';
import { printError } from './errors.ts';
import { grant } from './grant.ts';
import { formatDocument, listOf, outputOption, type Format } from './output.ts';
import { readPrintedPlans, type PrintedPlan } from './plan-file.ts';
import { restartLine } from './restart-line.ts';
import { addStoreOptions, withOpened } from './session.ts';
import { keysFrom, namespaceOption, notFound } from './workspaces.ts';

interface ApproveOptions {
  readonly filename?: string;
  readonly namespace?: string;
  readonly output: Format;
}

/** What was agreed to. */
interface Approval {
  readonly workspace: WorkspaceKey;
  readonly planId: string;
  readonly changes: readonly string[];
  /** What the target is called. */
  readonly target: string;
  readonly restart: Hold['restart'];
}

export function approveCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('approve')
    .summary('agree to the changes that a workspace waits with')
    .description(
      'Agrees to one plan of one workspace, or to those in a file: what policy.mode Plan waits with, or what a guard holds\n' +
        'back because it removes much at once. Exactly that plan is carried out, and one time: if the declaration, a source\n' +
        'or the target has changed meanwhile, nothing is done and the new plan waits. Written where plugset keeps what it\n' +
        'remembers, which whoever writes declarations need not be able to write; good for a day.',
    )
    .argument('[WORKSPACE]', 'NAME or NAMESPACE/NAME')
    .argument(
      '[PLAN]',
      'its whole id, as `plugset plan`, `plugset explain` and `plugset status -o wide` show it in what waits',
    )
    .option(
      '-f, --filename <path>',
      'every plan that waits in what `plugset plan -o json` printed, or - (standard input)',
    )
    .addOption(namespaceOption('namespace of a bare NAME (default: default)'))
    .addOption(outputOption())
    .addHelpText('after', HELP)
    .action(async (name: string | undefined, plan: string | undefined, options: ApproveOptions, self: Command) =>
      ends(await run(context, self, name, plan, options)),
    );
  return addStoreOptions(command);
}

const HELP = `
Examples:
  plugset explain alice                        what waits, and the id of the plan
  plugset approve alice sha256:3f2a9c51e0d4…   agree to it (all 64 digits)
  plugset plan -o json > plans.json            many at once: look at them (plugset plan shows the same to people) …
  plugset approve -f plans.json                … and agree to exactly these

Exit codes: 0 agreed; the daemon carries it out within moments, 1 a plan is not what waits (the others are agreed to).`;

async function run(
  context: CliContext,
  command: Command,
  name: string | undefined,
  plan: string | undefined,
  { filename, namespace, output }: ApproveOptions,
): Promise<ExitCode> {
  if ((filename === undefined) === (name === undefined) || (name === undefined) !== (plan === undefined))
    throw new CliError('which plan? Give WORKSPACE and PLAN, or -f FILE');
  if (filename !== undefined) {
    const plans = await readPrintedPlans(context, filename);
    return withOpened(context, command, (opened) => approveAll(context, opened, plans, output));
  }
  const [key] = keysFrom([name ?? ''], namespace);
  if (key === undefined) throw new CliError('which workspace?');
  const approval = await withOpened(context, command, (opened) => approve(context, opened, key, plan ?? ''));
  const isData = output === 'json' || output === 'yaml';
  context.stdout.write(isData ? formatDocument(approvalData(approval), output) : formatApproval(approval));
  return 0;
}

/** Those that wait no longer, or wait with another plan, are told and stop no other. */
async function approveAll(
  context: CliContext,
  opened: OpenedStore,
  plans: readonly PrintedPlan[],
  output: Format,
): Promise<ExitCode> {
  const isData = output === 'json' || output === 'yaml';
  const approvals: Approval[] = [];
  for (const { workspace, id } of plans) {
    try {
      const approval = await approve(context, opened, workspace, id);
      approvals.push(approval);
      // At once: if the next one breaks off, what was agreed to is known all the same.
      if (!isData) context.stdout.write(formatApproval(approval));
    } catch (error) {
      if (!(error instanceof CliError)) throw error;
      printError(context, error);
    }
  }
  if (isData) context.stdout.write(formatDocument(listOf(approvals.map(approvalData)), output));
  const approved = approvals.length;
  context.stderr.write(
    plans.length === 0
      ? 'none of these plans waits for an approval\n'
      : `approved ${approved} of ${countOf(plans.length, 'plan')}\n`,
  );
  return approved === plans.length ? 0 : 1;
}

async function approve(context: CliContext, opened: OpenedStore, key: WorkspaceKey, given: string): Promise<Approval> {
  const { store } = opened;
  const loaded = await store.get(key, context.signal);
  if (loaded.kind === 'absent') throw await notFound(store, key, context.signal);
  const { planId, held } = loaded.status;
  if (held === undefined || planId === undefined)
    throw new CliError(`workspace ${key} waits with nothing: there is no plan to agree to`);
  if (held.reason === 'ObserveOnly')
    throw new CliError(
      `workspace ${key} is only observed (policy.mode): nothing is approved there, and under Plan its plan has another id`,
    );
  if (hexOf(given) !== hexOf(planId)) throw wrongPlan(key, given, planId, held.changes);
  if (!(await grant(context, opened, key, 'approval', planId))) throw await notFound(store, key, context.signal);
  return { workspace: key, planId, changes: held.changes, target: loaded.status.target, restart: held.restart };
}

function formatApproval({ workspace, planId, changes, target, restart }: Approval): string {
  const lines = changes.map((change) => `  ${printable(change)}\n`).join('');
  return `workspace ${workspace}: plan ${planId.slice(0, 19)} approved\n${lines}${restartLine(target, restart)}`;
}

function approvalData({ workspace, planId, changes, restart }: Approval): unknown {
  return { kind: 'Approval', workspace: splitWorkspaceKey(workspace), planId, changes, restart };
}

/** The whole of it: whoever declares can make two plans whose ids begin alike, one to be looked at and one to be put in its place. */
function hexOf(planId: string): string {
  return planId.replace(/^sha256:/, '');
}

function wrongPlan(key: WorkspaceKey, given: string, planId: string, changes: readonly string[]): CliError {
  return new CliError(
    `plan ${given} is not what workspace ${key} waits with; that is ${planId}: ${printable(changes.join(', '))}`,
  );
}
