import type { ContainerInfo } from 'dockerode';

import type { AllowedEngine } from '../../domain/access.ts';
import { isMatch } from '../../domain/allowed-host.ts';
import { terminal, waiting } from '../../domain/errors.ts';
import type { Workspace } from '../../domain/workspace.ts';
import type { ContainerRules } from './container-rules.ts';
import type { DockerEngine } from './engine.ts';

/** Events shorten this wait; it is for one that was missed. */
const RETRY_MS = 60_000;

export interface FoundContainer {
  readonly id: string;
  readonly name: string;
  /** As the engine writes times; `undefined` where it was found in a list, which does not tell. */
  readonly startedAt: string | undefined;
}

/** Where a container is looked for, and what proves it. */
export interface Search {
  readonly engine: DockerEngine;
  /** Those of the engine that are for the workspace. */
  readonly entries: readonly Pick<AllowedEngine, 'containers'>[];
  readonly rules: ContainerRules;
  readonly workspace: Workspace;
}

/**
 * The running container that is proven to be this workspace's, by the operator, by label or by name rule; `named`: the one
 * that the declaration names. Throws what `TargetProvider.locate` promises.
 */
export async function findContainer(
  search: Search,
  named: string | undefined,
  signal: AbortSignal,
): Promise<FoundContainer> {
  const { engine, workspace } = search;
  const found = await find(search, named, signal);
  if (found.state !== 'running') {
    throw waiting(
      'WorkspaceNotRunning',
      `container ${found.name} of workspace ${workspace.key} on engine ${engine.name} is ${found.state}, not running; plugset goes on when it runs`,
      RETRY_MS,
    );
  }
  return { id: found.id, name: found.name, startedAt: found.startedAt };
}

/** The container that {@link findContainer} refuses because it has ended; `undefined`: it has not. */
export async function findEnded(
  search: Search,
  named: string | undefined,
  signal: AbortSignal,
): Promise<FoundContainer | undefined> {
  const found = await find(search, named, signal);
  return found.state === 'exited' ? found : undefined;
}

async function find(search: Search, named: string | undefined, signal: AbortSignal): Promise<Candidate> {
  const { engine, rules, workspace } = search;
  const name = named ?? rules.namedByOperator(workspace, engine.name);
  // Before the engine is asked: nobody is to learn what else it has.
  if (name !== undefined) requireAllowed(search, name);
  const found = await (name === undefined ? findUnnamed(search, signal) : findNamed(search, name, signal));
  requireAllowed(search, found.name);
  return found;
}

function requireAllowed({ engine, entries, workspace }: Search, name: string): void {
  const isAllowed = entries.some(
    ({ containers }) => containers === undefined || containers.some((pattern) => isMatch(name, pattern)),
  );
  if (isAllowed) return;
  throw terminal(
    'TargetNotAllowed',
    `workspace ${workspace.key} is to be container ${name} on engine ${engine.name}, which the operator has not allowed its namespace (targets.docker.engines, containers)`,
  );
}

interface Candidate extends FoundContainer {
  /** The engine's word; paused, restarting, dead and removing containers are not `running`. */
  readonly state: string;
  readonly label: string | undefined;
}

/** A name somebody wrote down proves nothing: any workspace could point at any container. */
async function findNamed(search: Search, named: string, signal: AbortSignal): Promise<Candidate> {
  const candidate = await inspectByName(search, named, signal);
  if (candidate === undefined) throw notFound(search, `no container is called ${named}`);
  requireProof(search, candidate);
  return candidate;
}

async function findUnnamed(search: Search, signal: AbortSignal): Promise<Candidate> {
  const { rules, workspace } = search;
  const ruleName = rules.ruleName(workspace);
  const values = rules.labelValues(workspace);
  const [byRule, ...lists] = await Promise.all([
    ruleName === undefined ? undefined : inspectByName(search, ruleName, signal),
    ...values.map((value) => listByLabel(search, value, signal)),
  ]);
  const labelled = lists.flat();
  if (labelled.length > 0) {
    const only = onlyOne(search, labelled);
    requireProof(search, only);
    return only;
  }
  if (byRule === undefined) {
    const named = ruleName === undefined ? '' : `, and none is called ${ruleName}`;
    throw notFound(search, `no container has the label ${rules.label}=${values.join(' or ')}${named}`);
  }
  requireProof(search, byRule);
  return byRule;
}

/** A label that names another workspace outweighs the name, and the operator's word outweighs both. */
function requireProof({ engine, rules, workspace }: Search, candidate: Candidate): void {
  const { label, name } = candidate;
  const owner = rules.givenTo(name, engine.name);
  if (owner === workspace.key) return;
  if (owner !== undefined) {
    throw terminal(
      'TargetUnproven',
      `container ${name} on engine ${engine.name} is of workspace ${owner}, as the operator has configured, and not of ${workspace.key}`,
    );
  }
  if (label === undefined ? name === rules.ruleName(workspace) : rules.labelValues(workspace).includes(label)) return;
  const carries = label === undefined ? `carries no label ${rules.label}` : `is labelled ${rules.label}=${label}`;
  throw terminal(
    'TargetUnproven',
    `container ${name} on engine ${engine.name} ${carries} and is not proven to be of workspace ${workspace.key}; recreate it with the label ${rules.label}=${workspace.key}`,
  );
}

function onlyOne({ engine, workspace }: Search, candidates: readonly Candidate[]): Candidate {
  const running = candidates.filter((candidate) => candidate.state === 'running');
  const [only] = candidates.length === 1 ? candidates : running;
  if (only !== undefined && (candidates.length === 1 || running.length === 1)) return only;
  const names = candidates
    .map((candidate) => candidate.name)
    .toSorted()
    .join(' and ');
  throw terminal(
    'TargetUnproven',
    `containers ${names} on engine ${engine.name} are all labelled for workspace ${workspace.key}; remove all but one`,
  );
}

async function inspectByName(
  { engine, rules }: Search,
  name: string,
  signal: AbortSignal,
): Promise<Candidate | undefined> {
  const info = await engine.find('inspect', `inspect container ${name}`, signal, (docker, abortSignal) =>
    docker.getContainer(name).inspect({ abortSignal } as object),
  );
  // The engine also takes the beginning of any container's id for a name.
  if (info === undefined || info.Name !== `/${name}`) return undefined;
  const { Status: state, StartedAt: startedAt } = info.State;
  return { id: info.Id, name, startedAt, state, label: info.Config.Labels[rules.label] };
}

async function listByLabel(
  { engine, rules }: Search,
  value: string,
  signal: AbortSignal,
): Promise<readonly Candidate[]> {
  const infos = await engine.call('list', `list containers labelled ${value}`, signal, (docker, abortSignal) =>
    docker.listContainers({ all: true, filters: { label: [`${rules.label}=${value}`] }, abortSignal }),
  );
  return infos.map((info: ContainerInfo) => ({
    id: info.Id,
    name: (info.Names[0] ?? info.Id).replace(/^\//, ''),
    startedAt: undefined,
    state: info.State,
    label: value,
  }));
}

function notFound({ engine, workspace }: Search, looked: string): Error {
  return waiting(
    'WorkspaceNotFound',
    `engine ${engine.name} has no container of workspace ${workspace.key}: ${looked}`,
    RETRY_MS,
  );
}
