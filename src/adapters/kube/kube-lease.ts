import { isName } from '../../domain/name.ts';
import type { KubeClient, KubeMethod } from './kube-client.ts';
import type { KubeObject } from './kube-object.ts';
import { KubeRefusal } from './kube-refusal.ts';

export const LEASE_NAME = 'plugset';
/** A Lease that is given back names nobody. */
export const LAST_HOLDER = 'plugset.dev/last-holder';
/** What the document says that may be lost: without either, the whole fleet would be somebody else's. */
export const AUTHORITY = 'plugset.dev/authority';
/** The epoch of a Lease that was created under a clock behind the one of its forerunner. */
export const LEAST_EPOCH = 'plugset.dev/least-epoch';

export interface LeaseSpec {
  readonly holderIdentity?: string;
  readonly leaseDurationSeconds?: number;
  readonly acquireTime?: string;
  readonly renewTime?: string;
  readonly leaseTransitions?: number;
}

export interface Lease extends KubeObject {
  readonly metadata: KubeObject['metadata'] & { readonly creationTimestamp: string };
  readonly spec: LeaseSpec;
}

export interface KubeLeaseOptions {
  readonly client: Pick<KubeClient, 'call'>;
  readonly namespace: string;
  /** For each request. */
  readonly timeoutMs: number;
}

/** The one Lease of a controller, as it stands at the API server. */
export class KubeLease {
  readonly #options: KubeLeaseOptions;

  constructor(options: KubeLeaseOptions) {
    this.#options = options;
  }

  async read(signal: AbortSignal): Promise<Lease | undefined> {
    const found = await unlessRefused([404], this.#call('GET', `/${LEASE_NAME}`, undefined, signal));
    // One that somebody has made by hand may have none.
    return found && { ...found, spec: found.spec ?? {} };
  }

  /**
   * In place of `found`, or where there was none; `undefined`: somebody was faster. What others have put on it stays. With its
   * version in the body a PUT is refused once it is another one; with its uid also where it is gone: the API server makes a
   * Lease that is PUT and is not there.
   */
  write(
    found: Lease | undefined,
    marks: Readonly<Record<string, string>>,
    spec: LeaseSpec,
    signal: AbortSignal,
  ): Promise<Lease | undefined> {
    const annotations = { ...found?.metadata.annotations, ...marks };
    const metadata = { name: LEASE_NAME, ...found?.metadata, annotations };
    const body = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata, spec };
    return found === undefined
      ? unlessRefused([409], this.#call('POST', '', body, signal))
      : unlessRefused([404, 409], this.#call('PUT', `/${LEASE_NAME}`, body, signal));
  }

  #call(method: KubeMethod, rest: string, body: unknown, signal: AbortSignal): Promise<Lease> {
    const { client, namespace, timeoutMs } = this.#options;
    const path = `/apis/coordination.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/leases${rest}`;
    return client.call<Lease>({ method, path, body, timeoutMs }, signal);
  }
}

/** The same for the whole life of a Lease, unless another one was later than it. */
export function epochOf({ metadata }: Lease): number {
  const least = /^\d{1,15}$/.exec(metadata.annotations?.[LEAST_EPOCH] ?? '')?.[0] ?? 0;
  return Math.max(Date.parse(metadata.creationTimestamp), Number(least));
}

export function authorityOn(lease: Lease | undefined): string | undefined {
  const authority = lease?.metadata.annotations?.[AUTHORITY] ?? '';
  return isName(authority) ? authority : undefined;
}

/** Nobody has taken it since. */
export function isSameTurn(lease: Lease, taken: Lease): boolean {
  return (
    lease.metadata.uid === taken.metadata.uid &&
    lease.spec.holderIdentity === taken.spec.holderIdentity &&
    lease.spec.leaseTransitions === taken.spec.leaseTransitions
  );
}

async function unlessRefused<T>(statuses: readonly number[], work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (thrown) {
    if (thrown instanceof KubeRefusal && statuses.includes(thrown.status)) return undefined;
    throw thrown;
  }
}
