/** What every object of Kubernetes has. */
export interface KubeObject {
  readonly metadata: KubeMetadata;
}

export interface KubeMetadata {
  readonly name: string;
  /** Left out for what belongs to no namespace. */
  readonly namespace?: string;
  readonly uid: string;
  /** New with every write. */
  readonly resourceVersion: string;
  /** Rises with every change of the spec, and never falls. */
  readonly generation?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly finalizers?: readonly string[];
  /** Who wrote which fields, and when last. Often longer than the object itself. */
  readonly managedFields?: readonly ManagedFields[];
}

export interface ManagedFields {
  readonly manager?: string;
  /** `status` where that was written, and not the object itself. */
  readonly subresource?: string;
  readonly time?: string;
}

/** `team-a/alice`; `alice` for what belongs to no namespace. */
export function keyOf({ metadata: { namespace, name } }: KubeObject): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

export function isKubeObject(value: unknown): value is KubeObject {
  const metadata = (value as Partial<KubeObject> | null | undefined)?.metadata;
  return ['name', 'uid', 'resourceVersion'].every((field) => {
    const text = (metadata as Readonly<Record<string, unknown>> | undefined)?.[field];
    return typeof text === 'string' && text !== '';
  });
}

const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

/** Without what is as long as the object itself and nobody reads: who wrote which field, and a copy of what was applied. */
export function withoutBulk<T extends KubeObject>(object: T): T {
  const { managedFields: _, ...metadata } = object.metadata;
  if (metadata.annotations?.[LAST_APPLIED] === undefined) return { ...object, metadata };
  const { [LAST_APPLIED]: __, ...annotations } = metadata.annotations;
  return { ...object, metadata: { ...metadata, annotations } };
}
