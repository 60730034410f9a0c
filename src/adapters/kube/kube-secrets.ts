import { terminal, waiting } from '../../domain/errors.ts';
import { splitWorkspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import type { SecretReference } from '../../domain/plugin-settings.ts';
import type { Secret, SecretResolver } from '../../ports/secret-resolver.ts';
import type { KubeClient, KubeRequest } from './kube-client.ts';
import { KubeRefusal } from './kube-refusal.ts';

const METADATA_ONLY = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';

/** Looked for again by then: nothing tells when one is made. */
const ABSENT_RECHECK_MS = 60_000;

interface SecretObject {
  readonly metadata: { readonly uid: string; readonly resourceVersion: string };
  /** base64 by key. */
  readonly data?: Readonly<Record<string, string>>;
}

/**
 * Secrets of the namespace that a workspace is declared in, and of no other. Files and variables of the controller are not for
 * custom resources, whoever makes those. Throws besides what {@link SecretResolver} does: `AccessDenied`, `Unreachable`.
 */
export class KubeSecrets implements SecretResolver {
  readonly #kube: { readonly client: Pick<KubeClient, 'call'> };

  constructor(kube: { readonly client: Pick<KubeClient, 'call'> }) {
    this.#kube = kube;
  }

  async version(reference: SecretReference, workspace: WorkspaceKey, signal: AbortSignal): Promise<string> {
    const { metadata } = await this.#read(nameIn(reference), workspace, signal, { accept: METADATA_ONLY });
    return versionOf(metadata);
  }

  async resolve(reference: SecretReference, workspace: WorkspaceKey, signal: AbortSignal): Promise<Secret> {
    const name = nameIn(reference);
    const { metadata, data = {} } = await this.#read(name, workspace, signal, {});
    const key = reference.scheme === 'secret' ? reference.key : '';
    const encoded = Object.hasOwn(data, key) ? data[key] : undefined;
    if (encoded === undefined)
      throw waiting('ConfigNotDelivered', `the Secret ${name} has no key ${key}; add it`, ABSENT_RECHECK_MS);
    const bytes = Buffer.from(encoded, 'base64');
    const value = bytes.toString('utf8');
    if (!Buffer.from(value).equals(bytes))
      throw terminal('ConfigNotDelivered', `the key ${key} of the Secret ${name} is no UTF-8 text`);
    return { value, version: versionOf(metadata) };
  }

  async #read(
    name: string,
    workspace: WorkspaceKey,
    signal: AbortSignal,
    how: Pick<KubeRequest, 'accept'>,
  ): Promise<SecretObject> {
    const { namespace } = splitWorkspaceKey(workspace);
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets/${encodeURIComponent(name)}`;
    try {
      return await this.#kube.client.call<SecretObject>({ method: 'GET', path, ...how }, signal);
    } catch (error) {
      if (!(error instanceof KubeRefusal) || error.status !== 404) throw error;
      const what = `the namespace ${namespace} has no Secret ${name}; make it`;
      throw waiting('ConfigNotDelivered', what, ABSENT_RECHECK_MS, error);
    }
  }
}

function nameIn(reference: SecretReference): string {
  if (reference.scheme === 'secret') return reference.name;
  throw terminal(
    'ConfigNotDelivered',
    'a workspace that is declared in Kubernetes can refer to Secrets of its namespace only',
  );
}

function versionOf({ uid, resourceVersion }: SecretObject['metadata']): string {
  return `${uid}/${resourceVersion}`;
}
