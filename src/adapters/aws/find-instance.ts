import type { AllowedRegion } from '../../domain/access.ts';
import { terminal, waiting, type ReconcileError } from '../../domain/errors.ts';
import type { Workspace } from '../../domain/workspace.ts';
import type { InstanceBatch } from './instance-batch.ts';
import { fits, type InstanceQuery } from './instance-query.ts';
import type { InstanceRules } from './instance-rules.ts';
import type { Instance } from './instance.ts';

/** Where an instance is looked for, and what proves it. */
export interface Search {
  readonly batch: InstanceBatch;
  readonly region: string;
  readonly rules: InstanceRules;
  readonly workspace: Workspace;
  /** Entries of the region that are for the workspace. */
  readonly entries: readonly Pick<AllowedRegion, 'tags'>[];
  /** What the declaration says; neither: whichever instance is tagged for the workspace. */
  readonly declared: {
    readonly instanceId?: string | undefined;
    readonly tags?: Readonly<Record<string, string>> | undefined;
  };
}

const SOON_MS = 5_000;
/** Nothing tells when that changes, and to ask for one more costs nothing. */
const LATER_MS = 15_000;

const GONE = new Set(['shutting-down', 'terminated']);

/**
 * The running instance of a workspace. Asked for in every pass: one that was replaced is another instance with nothing on
 * it. Throws what `TargetProvider.locate` promises.
 */
export async function findInstance(search: Search, signal: AbortSignal): Promise<Instance> {
  const answers = await Promise.all(queriesOf(search).map((query) => search.batch.find(query, signal)));
  const { tags = {} } = search.declared;
  const named = [...new Map(answers.flat().map((one) => [one.id, one])).values()].filter((one) => fits(one, { tags }));
  const found = named.filter((one) => search.entries.some((entry) => isAllowed(one, entry)));
  if (found.length === 0 && named.length > 0) throw notAllowed(search);
  const alive = found.filter(({ state }) => !GONE.has(state));
  const refusalOf = (one: Instance): ReconcileError | undefined => search.rules.refusal(one, search.workspace);
  const proven = alive.filter((one) => refusalOf(one) === undefined);
  const instance = onlyOne(search, proven);
  if (instance === undefined) throw (alive[0] && refusalOf(alive[0])) ?? notFound(search, found);
  if (instance.state !== 'running') throw notRunning(search, instance);
  return instance;
}

/**
 * AWS is asked by what proves an instance, and never by the tags of a declaration: each set of keys would be a request of its
 * own, of which AWS allows an account few, and the answer would tell of the instances of others.
 */
function queriesOf({ rules, workspace, declared }: Search): readonly InstanceQuery[] {
  const { instanceId = rules.namedByOperator(workspace), tags } = declared;
  const known = instanceId === undefined ? [] : [{ instanceId }];
  if (known.length > 0 && tags === undefined) return known;
  return [...known, ...rules.tagValues(workspace).map((value) => ({ tags: { [rules.tag]: value } }))];
}

/** Whether it has every tag that the operator demands. */
export function isAllowed({ tags }: Pick<Instance, 'tags'>, entry: Pick<AllowedRegion, 'tags'>): boolean {
  return Object.entries(entry.tags ?? {}).every(([key, value]) => tags[key] === value);
}

/** Which instances there are, and how they are tagged, is not for whoever may not have them. */
function notAllowed({ region, workspace }: Search): ReconcileError {
  return terminal(
    'TargetNotAllowed',
    `what workspace ${workspace.key} names in ${region} has not the tags that the operator demands there (targets.ec2.regions, tags)`,
  );
}

/** While one takes the place of another, the one that runs is meant. */
function onlyOne({ region, workspace }: Search, alive: readonly Instance[]): Instance | undefined {
  if (alive.length <= 1) return alive[0];
  const running = alive.filter(({ state }) => state === 'running' || state === 'pending');
  if (running.length === 1) return running[0];
  const ids = alive.map(({ id, state }) => `${id} (${state})`).toSorted();
  throw terminal(
    'TargetAmbiguous',
    `instances ${ids.join(', ')} in ${region} all fit workspace ${workspace.key}; take the tags off all but one`,
  );
}

function notFound({ region, workspace, declared, rules }: Search, found: readonly Instance[]): ReconcileError {
  const gone = found.map(({ id, state }) => `${id} is ${state}`).join(', ');
  const { instanceId, tags } = declared;
  const wanted =
    instanceId ??
    Object.entries({ ...tags, [rules.tag]: rules.tagValues(workspace).join(' or ') })
      .map(([key, value]) => `${key}=${value}`)
      .join(', ');
  const text = `no instance of workspace ${workspace.key} in ${region} (${wanted}${gone === '' ? '' : `; ${gone}`})`;
  return waiting('WorkspaceNotFound', `${text}; plugset goes on when there is one`, LATER_MS);
}

/** What each state leads to, and how soon. */
function notRunning({ region, workspace }: Search, { id, state }: Instance): ReconcileError {
  const said = `instance ${id} of workspace ${workspace.key} in ${region}`;
  switch (state) {
    case 'pending':
      return waiting('WorkspaceNotRunning', `${said} is starting (pending); plugset goes on when it runs`, SOON_MS);
    case 'stopping':
      return waiting('WorkspaceNotRunning', `${said} is stopping; plugset goes on when it was started again`, LATER_MS);
    default:
      return waiting('WorkspaceNotRunning', `${said} is ${state}; plugset goes on when it was started`, LATER_MS);
  }
}
