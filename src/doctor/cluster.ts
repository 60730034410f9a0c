import type { StoreConfig, KubernetesConfig } from '../config.ts';
import { Kube } from '../kube.ts';
import type { Clock } from '../ports/clock.ts';
import { fail, ok, warn, type Check, type Seen } from './check.ts';

export interface ClusterUnderTest {
  readonly kubernetes: KubernetesConfig;
  readonly store: Extract<StoreConfig, { kind: 'kubernetes' }>;
  readonly clock: Clock;
}

interface Permission {
  readonly verb: string;
  readonly group: string;
  /** `pods/exec` names a part of it. */
  readonly resource: string;
  /** Where workspaces are, or where the controller keeps what it remembers. */
  readonly where: 'workspaces' | 'state';
  /** Some fleets do without it. */
  readonly isOptional?: true;
}

const allOf = (verbs: readonly string[], rest: Omit<Permission, 'verb'>): readonly Permission[] =>
  verbs.map((verb) => ({ verb, ...rest }));

/** What `manifests/kustomize/base/roles.yaml` grants. */
const NEEDED: readonly Permission[] = [
  ...allOf(['get', 'list', 'watch', 'patch'], { group: 'plugset.dev', resource: 'workspaces', where: 'workspaces' }),
  { verb: 'patch', group: 'plugset.dev', resource: 'workspaces/status', where: 'workspaces' },
  ...allOf(['get', 'list', 'create', 'update', 'delete'], { group: '', resource: 'configmaps', where: 'state' }),
  ...allOf(['get', 'create', 'update'], { group: 'coordination.k8s.io', resource: 'leases', where: 'state' }),
  ...allOf(['list', 'watch'], { group: '', resource: 'pods', where: 'workspaces', isOptional: true }),
  ...allOf(['get', 'create'], { group: '', resource: 'pods/exec', where: 'workspaces', isOptional: true }),
  ...allOf(['create', 'patch'], { group: 'events.k8s.io', resource: 'events', where: 'workspaces', isOptional: true }),
];

/** The first with the protocol of exec that tells the end of what is sent: v5.channel.k8s.io. */
const LEAST_MINOR = 30;
const SKEW_MS = 5_000;
const ADVICE =
  'Bind the roles of manifests/kustomize to whom plugset runs as, and run this as that: kubectl exec deployment/plugset -- plugset doctor';

/** Whether the cluster can be reached and used, by whoever asks: what a person may do says nothing of the controller. */
export function clusterChecks(cluster: ClusterUnderTest): readonly Check[] {
  return [
    { name: 'API server', look: (signal) => asked(cluster, (kube) => server(kube, cluster.clock, signal)) },
    { name: 'permissions', look: (signal) => asked(cluster, (kube) => permissions(kube, cluster, signal)) },
  ];
}

async function asked<T>({ kubernetes, clock }: ClusterUnderTest, ask: (kube: Kube) => Promise<T>): Promise<T> {
  const kube = new Kube({ config: kubernetes, clock });
  try {
    return await ask(kube);
  } finally {
    kube.close();
  }
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

async function permissions(
  kube: Kube,
  { store: { namespaces, stateNamespace } }: ClusterUnderTest,
  signal: AbortSignal,
): Promise<readonly Seen[]> {
  const home = stateNamespace ?? (await kube.namespace(signal));
  const places = { workspaces: namespaces ?? [''], state: [home] };
  const questions = NEEDED.flatMap((needed) => places[needed.where].map((namespace) => ({ needed, namespace })));
  const answers = await Promise.all(
    questions.map(async (question) => ({ ...question, isAllowed: await mayDo(kube, question, signal) })),
  );
  const lacking = answers.filter(({ isAllowed }) => !isAllowed);
  const vital = lacking.filter(({ needed }) => needed.isOptional !== true).map(inWords);
  const optional = lacking.filter(({ needed }) => needed.isOptional === true).map(inWords);
  return [
    ...(vital.length === 0 ? [] : [fail(`plugset may not ${vital.join(', ')}`, ADVICE)]),
    ...(optional.length === 0
      ? []
      : [warn(`plugset may not ${optional.join(', ')}: of no use for pods, and tells no events`, ADVICE)]),
    ...(lacking.length === 0 ? [ok('plugset may do all that it needs')] : []),
  ];
}

interface Question {
  readonly needed: Permission;
  /** Empty: all of the cluster. */
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

function inWords({ needed: { verb, resource }, namespace }: Question): string {
  return `${verb} ${resource} ${namespace === '' ? 'everywhere' : `in ${namespace}`}`;
}
