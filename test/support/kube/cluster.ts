import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

/**
 * Whom the API server knows by a token: `admin` may do everything; `alice` and `bob` what a test lets them, and until
 * then nothing; `node` is the kubelet.
 */
export type ClusterUser = 'admin' | 'alice' | 'bob' | 'node';

/** What a control plane tells whoever wants to reach it, as `cluster.json` in its directory. */
export interface ClusterAddress {
  /** `https://127.0.0.1:port`. */
  readonly server: string;
  /** The PEM text that the server's certificate is checked with. */
  readonly ca: string;
  readonly tokens: Readonly<Record<ClusterUser, string>>;
  /** A program of the same version. */
  readonly kubectl: string;
}

export interface CallOptions {
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly contentType?: string;
  /** Default: the token of `admin`. */
  readonly token?: string;
  /** How long the API server may say nothing; default 30 s. */
  readonly timeoutMs?: number;
}

/** One line of the API server's audit log: who asked for what, and what came of it. */
export interface AuditEvent {
  /** A watch has begun with `ResponseStarted`, and has ended with `ResponseComplete`. */
  readonly stage: string;
  readonly verb: string;
  readonly requestURI: string;
  readonly user: { readonly username: string };
  readonly objectRef?: {
    readonly resource?: string;
    readonly subresource?: string;
    readonly namespace?: string;
    readonly name?: string;
    readonly apiGroup?: string;
  };
  readonly responseStatus?: { readonly code?: number };
}

/** The API server did not do what was asked. */
export class ClusterError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** A way into a test's cluster that depends on nothing of ours. Keeps no connection. */
export class Cluster {
  /** Holds `audit.log` and the logs of the servers too. */
  readonly directory: string;
  readonly server: string;
  readonly ca: string;
  readonly tokens: Readonly<Record<ClusterUser, string>>;
  /** The program. */
  readonly kubectlPath: string;

  private constructor(directory: string, { server, ca, tokens, kubectl }: ClusterAddress) {
    this.directory = directory;
    this.server = server;
    this.ca = ca;
    this.tokens = tokens;
    this.kubectlPath = kubectl;
  }

  /** The one that `withBackend('kubernetes', …)` names. */
  static async at(directory: string): Promise<Cluster> {
    return new Cluster(
      directory,
      JSON.parse(await readFile(join(directory, 'cluster.json'), 'utf8')) as ClusterAddress,
    );
  }

  /** Asks the API server; answers the object, and rejects with {@link ClusterError}. */
  async call<T = unknown>(method: string, path: string, options: CallOptions = {}): Promise<T> {
    const said = await this.ask(method, path, options);
    return JSON.parse(said) as T;
  }

  /** The same for what is no object: `/readyz`, `/metrics`. */
  async ask(method: string, path: string, options: CallOptions = {}): Promise<string> {
    const { body, contentType = 'application/json', token = this.tokens.admin, timeoutMs = 30_000 } = options;
    return new Promise((resolve, reject) => {
      const headers = {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { 'content-type': contentType }),
      };
      const asked = request(new URL(path, this.server), {
        method,
        headers,
        ca: this.ca,
        agent: false,
        timeout: timeoutMs,
      });
      asked.once('timeout', () => asked.destroy(new Error(`the API server is silent: ${method} ${path}`)));
      asked.once('error', reject);
      asked.once('response', (response) => {
        const status = response.statusCode ?? 0;
        text(response).then(
          (said) =>
            status < 300
              ? resolve(said)
              : reject(new ClusterError(status, `${method} ${path}: ${status} ${said.trim()}`)),
          reject,
        );
      });
      asked.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** A kubeconfig file's text, for a user of {@link tokens} or with a token of one's own; `server`: what stands before this one. */
  kubeconfig(
    who: ClusterUser | { readonly token: string },
    namespace = 'default',
    server = new URL(this.server),
  ): string {
    const token = typeof who === 'string' ? this.tokens[who] : who.token;
    // Without TLS the client of Kubernetes wants to hear that this is meant.
    const trust =
      server.protocol === 'https:'
        ? { 'certificate-authority-data': Buffer.from(this.ca).toString('base64') }
        : { 'insecure-skip-tls-verify': true };
    return JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster: { server: server.origin, ...trust } }],
      users: [{ name: 'test', user: { token } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test', namespace } }],
      'current-context': 'test',
    });
  }

  /** A token as a pod of this ServiceAccount gets one, for an hour or the seconds given (600 at least). */
  async serviceAccountToken(namespace: string, name: string, expirationSeconds = 3600): Promise<string> {
    const { status } = await this.call<{ readonly status: { readonly token: string } }>(
      'POST',
      `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`,
      { body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds } } },
    );
    return status.token;
  }

  /** What a kubectl of any test runs with: `admin`'s, and a home, for it keeps a `.kube` where it runs if it has none. */
  get environment(): Record<'PATH' | 'HOME' | 'KUBECONFIG', string> {
    return {
      PATH: process.env['PATH'] ?? '',
      HOME: this.directory,
      KUBECONFIG: join(this.directory, 'admin.kubeconfig'),
    };
  }

  /** Runs kubectl as `admin`, or with the kubeconfig named among the arguments; answers its stdout. */
  async kubectl(args: readonly string[], stdin = ''): Promise<string> {
    const options = { env: this.environment, maxBuffer: 2 ** 26 };
    return new Promise((resolve, reject) => {
      const child = execFile(this.kubectlPath, args, options, (error, stdout, stderr) =>
        error === null ? resolve(stdout) : reject(new Error(`kubectl ${args.join(' ')}: ${stderr}`, { cause: error })),
      );
      child.stdin?.on('error', () => undefined); // it may end before it has read anything
      child.stdin?.end(stdin);
    });
  }

  /** Everything that was asked so far and has been answered; the servers' own calls, and the kubelet's, are left out. */
  async auditEvents(): Promise<readonly AuditEvent[]> {
    const log = await readFile(join(this.directory, 'audit.log'), 'utf8').catch(() => '');
    // The last line may be half written.
    return log
      .slice(0, log.lastIndexOf('\n') + 1)
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as AuditEvent);
  }
}
