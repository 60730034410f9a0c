import { KubeRefusal } from '../adapters/kube/kube-refusal.ts';
import { podsPath } from '../adapters/kube/pod-copies.ts';
import type { Config } from '../config.ts';
import { isForAnybody } from '../domain/access.ts';
import { Kube } from '../kube.ts';
import type { Clock } from '../ports/clock.ts';
import { fail, ok, warn, type Check, type Seen } from './check.ts';

export type ClusterUse = Pick<Config, 'kubernetes' | 'store' | 'pods'>;

/** What a permission is needed for, which says in which namespaces. */
type Use = 'workspaces' | 'state' | 'pods' | 'events';

interface Permission {
  readonly use: Use;
  readonly verb: string;
  readonly group: string;
  /** `pods/exec` names a part of it. */
  readonly resource: string;
}

const allOf = (verbs: readonly string[], rest: Omit<Permission, 'verb'>): readonly Permission[] =>
  verbs.map((verb) => ({ verb, ...rest }));

/** What `manifests/kustomize/base/roles.yaml` grants. */
const NEEDED: readonly Permission[] = [
  ...allOf(['get', 'list', 'watch', 'patch'], { use: 'workspaces', group: 'plugset.dev', resource: 'workspaces' }),
  { use: 'workspaces', verb: 'patch', group: 'plugset.dev', resource: 'workspaces/status' },
  ...allOf(['get', 'list', 'create', 'update', 'delete'], { use: 'state', group: '', resource: 'configmaps' }),
  ...allOf(['get', 'create', 'update'], { use: 'state', group: 'coordination.k8s.io', resource: 'leases' }),
  ...allOf(['list', 'watch'], { use: 'pods', group: '', resource: 'pods' }),
  ...allOf(['get', 'create'], { use: 'pods', group: '', resource: 'pods/exec' }),
  ...allOf(['create', 'patch'], { use: 'events', group: 'events.k8s.io', resource: 'events' }),
];

const WATCH_PODS: Permission = { use: 'pods', verb: 'watch', group: '', resource: 'pods' };

const EVERYWHERE = '';
/** The first with the protocol of exec that tells the end of what is sent: v5.channel.k8s.io. */
const LEAST_MINOR = 30;
const SKEW_MS = 5_000;
const ADVICE =
  'Bind the roles of manifests/kustomize to whom plugset runs as, and run this as that: kubectl -n plugset-system exec deployment/plugset -- plugset doctor';
const PODS_ADVICE =
  'Let whom plugset asks as there (`kubernetes` in the configuration) list and watch pods, and get and create pods/exec, in the namespaces of targets.pod.';

/**
 * Whether the cluster can be reached and used, by whoever asks: what a person may do says nothing of the controller. Nothing
 * where it is neither the store nor has pods that are targets.
 */
export function clusterChecks(use: ClusterUse, clock: Clock): readonly Check[] {
  const arePods = isForAnybody(use.pods);
  if (use.store.kind !== 'kubernetes' && !arePods) return [];
  const asking =
    (ask: (kube: Kube, signal: AbortSignal) => Promise<readonly Seen[]>) =>
    async (signal: AbortSignal): Promise<readonly Seen[]> => {
      const kube = new Kube({ config: use.kubernetes, clock });
      try {
        return await ask(kube, signal);
      } finally {
        kube.close();
      }
    };
  return [
    { name: 'API server', look: asking((kube, signal) => server(kube, clock, signal)) },
    { name: 'permissions', look: asking((kube, signal) => permissions(kube, use, signal)) },
    ...(arePods ? [{ name: 'exec', look: asking((kube, signal) => webSocket(kube, podNamespaces(use), signal)) }] : []),
  ];
}

/** Of workspaces that are pods. A custom resource is read only where the store looks. */
function podNamespaces({ store, pods: { namespaces: allowed } }: ClusterUse): readonly string[] {
  const read = store.kind === 'kubernetes' ? store.namespaces : undefined;
  if (read === undefined) return allowed ?? [EVERYWHERE];
  return read.filter((namespace) => allowed?.includes(namespace) ?? true);
}

interface Version {
  readonly major: string;
  readonly minor: string;
  readonly gitVersion: string;
}

interface SelfReview {
  readonly metadata: { readonly creationTimestamp?: string };
  readonly status: { readonly userInfo?: { readonly username?: string } };
}

async function server({ client }: Kube, clock: Clock, signal: AbortSignal): Promise<readonly Seen[]> {
  const startedMs = clock.monotonic();
  const { gitVersion, minor } = await client.call<Version>({ method: 'GET', path: '/version' }, signal);
  const tookMs = Math.max(1, Math.round(clock.monotonic() - startedMs));
  const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' };
  const path = '/apis/authentication.k8s.io/v1/selfsubjectreviews';
  const { metadata, status } = await client.call<SelfReview>({ method: 'POST', path, body }, signal);
  const said = `Kubernetes ${gitVersion}, answers in ${tookMs} ms; plugset is ${status.userInfo?.username ?? 'nobody'} there`;
  const isOld = Number.parseInt(minor, 10) < LEAST_MINOR;
  return [
    isOld
      ? warn(said, `Pods as targets want Kubernetes 1.${LEAST_MINOR} or newer (exec over v5.channel.k8s.io).`)
      : ok(said),
    ...clocksOf(metadata.creationTimestamp, clock.now()),
  ];
}

/** In whole seconds, cut off. */
function clocksOf(timestamp: string | undefined, nowMs: number): readonly Seen[] {
  const skewMs = nowMs - Date.parse(timestamp ?? '') - 500;
  if (Number.isNaN(skewMs)) return [];
  if (Math.abs(skewMs) <= SKEW_MS)
    return [ok(`this clock and that of the API server agree within ${SKEW_MS / 1000} s`)];
  const seen = `this machine's clock is ${Math.round(Math.abs(skewMs) / 1000)} s ${skewMs > 0 ? 'ahead of' : 'behind'} the API server's`;
  return [warn(seen, 'Let NTP set both: ages and the times of a Lease go by them.')];
}

/**
 * A watch can be had as a WebSocket too, and needs no pod to try it on. It tells of whatever stands before the API server; how
 * a container takes part in an exec, only one that runs can show.
 */
async function webSocket(kube: Kube, [namespace]: readonly string[], signal: AbortSignal): Promise<readonly Seen[]> {
  if (namespace === undefined) return [];
  // Told as a permission.
  if (!(await mayDo(kube, { needed: WATCH_PODS, namespace }, signal))) return [];
  // Should it come as no WebSocket, it ends by itself.
  const query = Object.entries({ watch: 'true', fieldSelector: 'metadata.name=none', timeoutSeconds: '1' });
  try {
    const socket = await kube.client.connect({ path: podsPath(namespace), query, sameOrigin: true }, signal);
    socket.terminate();
    return [ok('WebSockets get through to it; `plugset doctor WORKSPACE` of one that is a pod tries exec itself')];
  } catch (error) {
    if (!(error instanceof KubeRefusal)) throw error;
    const seen = `no WebSocket gets through to it (${error.status}), and exec in pods is one`;
    return [fail(seen, 'Have whatever stands before the API server (a gateway, a proxy) let WebSockets through.')];
  }
}

async function permissions(kube: Kube, use: ClusterUse, signal: AbortSignal): Promise<readonly Seen[]> {
  const places = await placesOf(kube, use, signal);
  const questions = NEEDED.flatMap((needed) => places[needed.use].map((namespace) => ({ needed, namespace })));
  const answers = await Promise.all(
    questions.map(async (question) => ({ ...question, isAllowed: await mayDo(kube, question, signal) })),
  );
  const lacking = answers.filter(({ isAllowed }) => !isAllowed);
  if (lacking.length === 0) return [ok('plugset may do all that it needs')];
  if (use.store.kind !== 'kubernetes')
    return [fail(`plugset may not ${lacking.map(inWords).join(', ')}: of no use for pods`, PODS_ADVICE)];
  // Some fleets do without them.
  const isOptional = ({ needed }: Question): boolean => needed.use === 'pods' || needed.use === 'events';
  const vital = lacking.filter((one) => !isOptional(one)).map(inWords);
  const optional = lacking.filter(isOptional);
  return [
    ...(vital.length === 0 ? [] : [fail(`plugset may not ${vital.join(', ')}`, ADVICE)]),
    ...(optional.length === 0
      ? []
      : [warn(`plugset may not ${optional.map(inWords).join(', ')}: ${without(optional)}`, ADVICE)]),
  ];
}

async function placesOf(
  kube: Kube,
  use: ClusterUse,
  signal: AbortSignal,
): Promise<Readonly<Record<Use, readonly string[]>>> {
  const pods = podNamespaces(use);
  if (use.store.kind !== 'kubernetes') return { workspaces: [], state: [], pods, events: [] };
  const { namespaces: workspaces = [EVERYWHERE], stateNamespace } = use.store;
  return { workspaces, state: [stateNamespace ?? (await kube.namespace(signal))], pods, events: workspaces };
}

interface Question {
  readonly needed: Permission;
  readonly namespace: string;
}

async function mayDo({ client }: Kube, { needed, namespace }: Question, signal: AbortSignal): Promise<boolean> {
  const [resource, subresource] = needed.resource.split('/');
  const { verb, group } = needed;
  const resourceAttributes = { verb, group, resource, subresource, namespace };
  const { status } = await client.call<{ readonly status: { readonly allowed?: boolean } }>(
    {
      method: 'POST',
      path: '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
      body: { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectAccessReview', spec: { resourceAttributes } },
    },
    signal,
  );
  return status.allowed === true;
}

function without(lacking: readonly Question[]): string {
  const uses = new Set(lacking.map(({ needed }) => needed.use));
  const lost = [
    ...(uses.has('pods') ? ['of no use for pods'] : []),
    ...(uses.has('events') ? ['tells no events'] : []),
  ];
  return lost.join(', and ');
}

function inWords({ needed: { verb, resource }, namespace }: Question): string {
  return `${verb} ${resource} ${namespace === EVERYWHERE ? 'everywhere' : `in ${namespace}`}`;
}
