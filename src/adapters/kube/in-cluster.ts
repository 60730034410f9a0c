import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { causeOf } from '../../domain/error-code.ts';
import { transient } from '../../domain/errors.ts';
import type { KubeConnection } from './kube-connection.ts';

/** What the kubelet gives every container of a pod, in its environment and as files. */
export interface InCluster {
  readonly host: string;
  readonly port: string;
  /** Usually `/var/run/secrets/kubernetes.io/serviceaccount`. */
  readonly directory: string;
}

/**
 * As the service account of the pod. Three files, read here: for their sake alone the client of Kubernetes would cost a daemon
 * 85 MB and most of a second at its start.
 */
export function inClusterConnection({ host, port, directory }: InCluster): () => Promise<KubeConnection> {
  const server = new URL(`https://${host.includes(':') ? `[${host}]` : host}:${port}`);
  const read = (name: string): Promise<string> => readFile(join(directory, name), 'utf8');
  return async () => {
    try {
      const [ca, token, namespace] = await Promise.all(['ca.crt', 'token', 'namespace'].map(read));
      const headers = { Authorization: `Bearer ${token?.trim()}` };
      return { server, tls: { ca }, headers, namespace: namespace?.trim() };
    } catch (error) {
      const why = `the service account of this pod cannot be read in ${directory} (${causeOf(error)})`;
      throw transient('AuthenticationFailed', why, error);
    }
  };
}
