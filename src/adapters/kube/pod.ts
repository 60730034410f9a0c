import { isWithin } from '../../ports/target-path.ts';
import type { KubeObject } from './kube-object.ts';

/** What is kept of a pod: enough to choose one, to say why there is nothing to work on, and to see that it is another one. */
export interface Pod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
  /** It is being deleted, or its node is lost. */
  readonly isTerminating: boolean;
  readonly phase: string;
  /** Such as `Evicted`; empty where there is none. */
  readonly reason: string;
  readonly node: string | undefined;
  /** `Always`, `OnFailure`, `Never`: whether a container that ends is started again. */
  readonly restartPolicy: string;
  /** Why it has no node, where that is known. */
  readonly unscheduled: string | undefined;
  readonly defaultContainer: string | undefined;
  readonly containers: readonly Container[];
}

export interface Container {
  readonly name: string;
  /** Of the one that runs; another one after each start. */
  readonly id: string | undefined;
  readonly startedAt: string | undefined;
  /** It has not passed its startup probe. */
  readonly isStarting: boolean;
  /** How often it was started again. */
  readonly restartCount: number;
  /** Why it does not run: `ContainerCreating`, `CrashLoopBackOff`, `Error` … */
  readonly why: string;
  readonly exitCode: number | undefined;
  readonly mounts: readonly Mount[];
}

/** A volume, as a container sees it. */
export interface Mount {
  readonly mountPath: string;
  /** It may be there before and after its pod. */
  readonly isLasting: boolean;
}

/** As the API server hands it over. */
export interface PodObject extends KubeObject {
  readonly spec?: {
    readonly nodeName?: string;
    readonly restartPolicy?: string;
    readonly hostPID?: boolean;
    readonly shareProcessNamespace?: boolean;
    readonly containers?: readonly RawSpec[];
    readonly volumes?: readonly RawVolume[];
  };
  readonly status?: {
    readonly phase?: string;
    readonly reason?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
    readonly containerStatuses?: readonly RawContainer[];
  };
}

interface RawSpec {
  readonly name: string;
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
}

type RawVolume = Readonly<Record<string, unknown>> & { readonly name: string };

interface RawContainer {
  readonly name: string;
  readonly containerID?: string;
  readonly restartCount?: number;
  readonly started?: boolean;
  readonly state?: {
    readonly running?: { readonly startedAt?: string };
    readonly waiting?: { readonly reason?: string };
    readonly terminated?: { readonly reason?: string; readonly exitCode?: number };
  };
  readonly lastState?: { readonly terminated?: { readonly exitCode?: number } };
}

/** Volumes that come and go with their pod; any other kind may be there before and after it. */
const OF_THE_POD = ['emptyDir', 'configMap', 'secret', 'projected', 'downwardAPI', 'image', 'ephemeral'];

const DEFAULT_CONTAINER = 'kubectl.kubernetes.io/default-container';

export function podFrom(object: KubeObject): Pod {
  const { metadata, spec = {}, status = {} } = object as PodObject;
  const { name, namespace = '', uid, labels = {}, annotations = {} } = metadata;
  const volumes = (spec.volumes ?? []).filter((volume) => !OF_THE_POD.some((kind) => kind in volume));
  const lasting = new Set(volumes.map((volume) => volume.name));
  const scheduled = status.conditions?.find(({ type }) => type === 'PodScheduled');
  return {
    namespace,
    name,
    uid,
    labels,
    isTerminating: metadata.deletionTimestamp !== undefined,
    phase: status.phase ?? 'Pending',
    reason: status.reason ?? '',
    node: spec.nodeName,
    restartPolicy: spec.restartPolicy ?? 'Always',
    unscheduled: scheduled?.status === 'False' ? (scheduled.message ?? scheduled.reason) : undefined,
    defaultContainer: annotations[DEFAULT_CONTAINER],
    containers: (spec.containers ?? []).map((declared) =>
      containerFrom(
        declared,
        status.containerStatuses?.find((one) => one.name === declared.name),
        lasting,
      ),
    ),
  };
}

function containerFrom(
  { name, volumeMounts = [] }: RawSpec,
  raw: RawContainer | undefined,
  lasting: ReadonlySet<string>,
): Container {
  const { running, waiting, terminated } = raw?.state ?? {};
  const ended = terminated ?? raw?.lastState?.terminated;
  return {
    name,
    id: running === undefined ? undefined : raw?.containerID,
    startedAt: running?.startedAt,
    isStarting: raw?.started === false,
    restartCount: raw?.restartCount ?? 0,
    why: waiting?.reason ?? terminated?.reason ?? '',
    exitCode: ended?.exitCode,
    mounts: volumeMounts.map((mount) => ({ mountPath: mount.mountPath, isLasting: lasting.has(mount.name) })),
  };
}

/** The mount that an absolute path in the container lies on: the innermost. */
export function mountAt<M extends Pick<Mount, 'mountPath'>>(path: string, mounts: readonly M[]): M | undefined {
  const around = mounts.filter(({ mountPath }) => isWithin(path, mountPath));
  return around.toSorted((a, b) => b.mountPath.length - a.mountPath.length)[0];
}
