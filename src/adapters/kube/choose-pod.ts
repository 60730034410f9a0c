import { terminal, waiting } from '../../domain/errors.ts';
import { splitWorkspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import type { Reason } from '../../domain/reason.ts';
import { isLabelValue, LABEL_VALUE_MAX, WORKSPACE_LABEL, type Workspace } from '../../domain/workspace.ts';
import type { Container, Pod } from './pod.ts';

/** News of pods shortens this wait; it is for some that was missed. */
const RETRY_MS = 60_000;
/** One of them may be about to go: a rollout. */
const AMBIGUOUS_RETRY_MS = 15_000;

/** Which pod a workspace names; never one of another namespace. */
export interface PodWish {
  readonly key: WorkspaceKey;
  readonly namespace: string;
  readonly name: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
  readonly container: string | undefined;
}

export interface ChosenContainer {
  readonly pod: Pod;
  /** It runs. */
  readonly container: Container & { readonly id: string };
}

/** Pure. */
export function podWish({ key, target }: Pick<Workspace, 'key' | 'target'>): PodWish {
  if (!('pod' in target)) {
    throw terminal('Internal', `workspace ${key} has no pod target and reached the pod provider`);
  }
  const { namespace, name: workspaceName } = splitWorkspaceKey(key);
  const { name, selector, container } = target.pod;
  const labels = selector ?? (name === undefined ? { [WORKSPACE_LABEL]: workspaceName } : {});
  return { key, namespace, name, labels, container };
}

/** For people: `called alice-0`, `labelled app=agent`. */
function wishText({ name, labels }: PodWish): string {
  if (name !== undefined) return `called ${name}`;
  const texts = Object.entries(labels).map(([label, value]) => `${label}=${value}`);
  return `labelled ${texts.toSorted().join(', ')}`;
}

/** Throws `InvalidSpec` (terminal) for a wish that no pod can ever fulfil. */
export function requirePossible({ key, name, labels }: PodWish): void {
  const value = labels[WORKSPACE_LABEL];
  if (name !== undefined || value === undefined || isLabelValue(value)) return;
  throw terminal(
    'InvalidSpec',
    `workspace ${key}: no label can hold the name of the workspace (at most ${LABEL_VALUE_MAX} characters, of which the first and last are letters or digits), so its pod cannot be found by it; give spec.target.pod a name or a selector`,
  );
}

export function isWished(pod: Pod, { namespace, name, labels }: PodWish): boolean {
  if (pod.namespace !== namespace) return false;
  if (name !== undefined) return pod.name === name;
  return hasLabels(pod, labels);
}

export function hasLabels(pod: Pick<Pod, 'labels'>, labels: Readonly<Record<string, string>>): boolean {
  return Object.entries(labels).every(([label, value]) => pod.labels[label] === value);
}

/**
 * The one running container of `pods` that a workspace means. A pod that is being deleted or has ended is none. Throws what
 * `TargetProvider.locate` promises, for each state a reason of its own.
 */
export function chooseContainer(pods: readonly Pod[], wish: PodWish): ChosenContainer {
  const alive = pods.filter((pod) => !pod.isTerminating && !hasEnded(pod));
  if (alive.length === 0) throw noneAlive(pods, wish);
  const pod = onlyOne(alive, wish);
  requireNotAnothers(pod, wish);
  const container = containerOf(pod, wish);
  if (container.id === undefined) throw notRunning(pod, container, wish);
  return { pod, container: { ...container, id: container.id } };
}

function hasEnded({ phase }: Pod): boolean {
  return phase === 'Succeeded' || phase === 'Failed';
}

function noneAlive(pods: readonly Pod[], wish: PodWish): Error {
  const [ended] = pods.filter((pod) => hasEnded(pod) && !pod.isTerminating);
  const evicted = pods.find((pod) => pod.reason === 'Evicted' && !pod.isTerminating);
  const whose = `workspace ${wish.key}`;
  if (evicted !== undefined) {
    return wait('PodEvicted', `pod ${evicted.name} of ${whose} was evicted from node ${evicted.node ?? 'unknown'}`);
  }
  if (ended !== undefined) {
    const how = ended.phase === 'Succeeded' ? 'has run to its end' : `has failed${inWords(ended.reason)}`;
    return wait('PodCompleted', `pod ${ended.name} of ${whose} ${how}`);
  }
  const going = pods.length === 0 ? '' : ` but ${namesOf(pods)}, which is being deleted`;
  return wait(
    'WorkspaceNotFound',
    `namespace ${wish.namespace} has no pod ${wishText(wish)} for ${whose}${going}; plugset goes on when there is one`,
  );
}

/** Of several that are labelled alike, as in a rollout, the one that runs. */
function onlyOne(pods: readonly Pod[], wish: PodWish): Pod {
  const running = pods.filter(({ phase }) => phase === 'Running');
  const [only] = pods.length === 1 ? pods : running;
  if (only !== undefined && (pods.length === 1 || running.length === 1)) return only;
  throw waiting(
    'TargetAmbiguous',
    `pods ${namesOf(pods)} of namespace ${wish.namespace} are all ${wishText(wish)}, so none of them is workspace ${wish.key}; plugset goes on when only one is`,
    AMBIGUOUS_RETRY_MS,
  );
}

/** Whoever makes a pod says by its label whose it is, and that outweighs what a workspace claims by a name. */
function requireNotAnothers(pod: Pod, { key, labels }: PodWish): void {
  const owner = pod.labels[WORKSPACE_LABEL];
  if (owner === undefined || owner === splitWorkspaceKey(key).name || owner === labels[WORKSPACE_LABEL]) return;
  throw terminal(
    'TargetUnproven',
    `pod ${pod.namespace}/${pod.name} is labelled ${WORKSPACE_LABEL}=${owner} and so is not of workspace ${key}`,
  );
}

function containerOf(pod: Pod, { key, container: wished }: PodWish): Container {
  const name = wished ?? pod.defaultContainer;
  const names = pod.containers.map((container) => container.name).join(', ');
  const [first, ...others] = pod.containers.filter((container) => name === undefined || container.name === name);
  if (first !== undefined && others.length === 0) return first;
  const problem = name === undefined ? `has several containers` : `has no container ${name}`;
  throw terminal(
    'InvalidSpec',
    `pod ${pod.name} of workspace ${key} ${problem} (it has ${names}); name one: spec.target.pod.container`,
  );
}

function notRunning(pod: Pod, container: Container, { key }: PodWish): Error {
  const subject = `container ${container.name} of pod ${pod.name} of workspace ${key}`;
  if (pod.node === undefined) {
    return wait('PodPending', `pod ${pod.name} of workspace ${key} has no node yet${inWords(pod.unscheduled ?? '')}`);
  }
  if (container.exitCode === undefined && container.restartCount === 0) {
    return wait('PodNotReady', `${subject} has not been started yet${inWords(container.why)}`);
  }
  const code = container.exitCode === undefined ? '' : ` with exit code ${container.exitCode}`;
  if (pod.restartPolicy === 'Never' || (pod.restartPolicy === 'OnFailure' && container.exitCode === 0)) {
    return wait('PodCompleted', `${subject} has ended${code}, and its pod restarts none`);
  }
  return wait('ContainerRestarting', `${subject} has ended${code} and is started again${inWords(container.why)}`);
}

function wait(reason: Reason, message: string): Error {
  return waiting(reason, message, RETRY_MS);
}

function inWords(why: string): string {
  return why === '' ? '' : ` (${why})`;
}

function namesOf(pods: readonly Pod[]): string {
  return pods
    .map(({ name }) => name)
    .toSorted()
    .join(' and ');
}
