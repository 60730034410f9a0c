import type { SecureContextOptions } from 'node:tls';

/** Where the API server is, and as whom to ask it, at this moment. */
export interface KubeConnection {
  readonly server: URL;
  readonly tls: KubeTls;
  /** `Authorization`, and whom to act as. */
  readonly headers: Readonly<Record<string, string>>;
  /** What is meant where nobody names a namespace. */
  readonly namespace: string | undefined;
}

/** Whom to believe, and the certificate to show. */
export interface KubeTls extends Pick<SecureContextOptions, 'ca' | 'cert' | 'key'> {
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
}

/** Reads it anew each time: tokens and certificates are renewed under way, in files and by plug-ins, which `signal` ends. */
export type ReadConnection = (signal: AbortSignal) => Promise<KubeConnection>;
