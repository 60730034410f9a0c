import type { ContainerInfo } from 'dockerode';

import { terminal, waiting } from '../../domain/errors.ts';
import type { Workspace } from '../../domain/workspace.ts';
import type { DockerEngine } from './engine.ts';

/** Says for which workspace a container was made: `namespace/name`, or the workspace's id. */
export const WORKSPACE_LABEL = 'plugset.dev/workspace';

/** Events shorten this wait; it is for one that was missed. */
const RETRY_MS = 60_000;

export interface FoundContainer {
  readonly id: string;
  readonly name: string;
  /** As the engine writes times; `undefined` where it was found in a list, which does not tell. */
  readonly startedAt: string | undefined;
}

/** The name a platform gives the container of a workspace when it sets no label. */
export function ruleName(workspace: Workspace): string {
  return `ws-${workspace.id.slice(0, 12)}`;
}

/** Values of the label that stand for this workspace. */
export function labelValues(workspace: Workspace): readonly string[] {
  return [...new Set<string>([workspace.key, workspace.id])];
}

/**
 * The running container that is proven to be this workspace's, by label or by name rule.
 * Throws what `TargetProvider.locate` promises.
 */
export async function findContainer(
  engine: DockerEngine,
  workspace: Workspace,
  named: string | undefined,
  signal: AbortSignal,
): Promise<FoundContainer> {
  const found =
    named === undefined
      ? await findUnnamed(engine, workspace, signal)
      : await findNamed(engine, workspace, named, signal);
  if (found.state !== 'running') {
    throw waiting(
      'WorkspaceNotRunning',
      `container ${found.name} of workspace ${workspace.key} on engine ${engine.name} is ${found.state}, not running; plugset goes on when it runs`,
      RETRY_MS,
    );
  }
  return { id: found.id, name: found.name, startedAt: found.startedAt };
}

interface Candidate extends FoundContainer {
  /** The engine's word; paused, restarting, dead and removing containers are not `running`. */
  readonly state: string;
  readonly label: string | undefined;
}

/** A name somebody wrote down proves nothing: any workspace could point at any container. */
async function findNamed(
  engine: DockerEngine,
  workspace: Workspace,
  named: string,
  signal: AbortSignal,
): Promise<Candidate> {
  const candidate = await inspectByName(engine, named, signal);
  if (candidate === undefined) throw notFound(engine, workspace, `no container is called ${named}`);
  requireProof(engine, workspace, candidate);
  return candidate;
}

async function findUnnamed(engine: DockerEngine, workspace: Workspace, signal: AbortSignal): Promise<Candidate> {
  const [byRule, ...lists] = await Promise.all([
    inspectByName(engine, ruleName(workspace), signal),
    ...labelValues(workspace).map((value) => listByLabel(engine, value, signal)),
  ]);
  const labelled = lists.flat();
  if (labelled.length > 0) return onlyOne(engine, workspace, labelled);
  if (byRule === undefined) {
    const looked = `no container has the label ${WORKSPACE_LABEL}=${labelValues(workspace).join(' or ')}, and none is called ${ruleName(workspace)}`;
    throw notFound(engine, workspace, looked);
  }
  requireProof(engine, workspace, byRule);
  return byRule;
}

/** A label that names another workspace outweighs the name. */
function requireProof(engine: DockerEngine, workspace: Workspace, candidate: Candidate): void {
  const { label, name } = candidate;
  if (label === undefined ? name === ruleName(workspace) : labelValues(workspace).includes(label)) return;
  const carries =
    label === undefined ? `carries no label ${WORKSPACE_LABEL}` : `is labelled ${WORKSPACE_LABEL}=${label}`;
  throw terminal(
    'TargetUnproven',
    `container ${name} on engine ${engine.name} ${carries} and is not proven to be of workspace ${workspace.key}; recreate it with the label ${WORKSPACE_LABEL}=${workspace.key}`,
  );
}

function onlyOne(engine: DockerEngine, workspace: Workspace, candidates: readonly Candidate[]): Candidate {
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

async function inspectByName(engine: DockerEngine, name: string, signal: AbortSignal): Promise<Candidate | undefined> {
  const info = await engine.find('inspect', `inspect container ${name}`, signal, (docker, abortSignal) =>
    docker.getContainer(name).inspect({ abortSignal } as object),
  );
  // The engine also takes the beginning of any container's id for a name.
  if (info === undefined || info.Name !== `/${name}`) return undefined;
  const { Status: state, StartedAt: startedAt } = info.State;
  return { id: info.Id, name, startedAt, state, label: info.Config.Labels[WORKSPACE_LABEL] };
}

async function listByLabel(engine: DockerEngine, value: string, signal: AbortSignal): Promise<readonly Candidate[]> {
  const infos = await engine.call('list', `list containers labelled ${value}`, signal, (docker, abortSignal) =>
    docker.listContainers({ all: true, filters: { label: [`${WORKSPACE_LABEL}=${value}`] }, abortSignal }),
  );
  return infos.map((info: ContainerInfo) => ({
    id: info.Id,
    name: (info.Names[0] ?? info.Id).replace(/^\//, ''),
    startedAt: undefined,
    state: info.State,
    label: value,
  }));
}

function notFound(engine: DockerEngine, workspace: Workspace, looked: string): Error {
  return waiting(
    'WorkspaceNotFound',
    `engine ${engine.name} has no container of workspace ${workspace.key}: ${looked}`,
    RETRY_MS,
  );
}
