import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import type { RequestOptions } from 'node:https';
import { dirname, resolve } from 'node:path';

import type * as Client from '@kubernetes/client-node';
import { parse } from 'yaml';

import { causeOf, codeOf } from '../../domain/error-code.ts';
import { terminal, transient, type ReconcileError } from '../../domain/errors.ts';
import type { KubeConnection, ReadConnection } from './kube-connection.ts';

export interface Kubeconfig {
  /** As in KUBECONFIG: what an earlier file says holds, and of several some may be missing. */
  readonly paths: readonly string[];
  /** Left out: the current one. */
  readonly context?: string | undefined;
}

/** Reads the files once. What they refer to (files, plug-ins) is asked each time, and remembered by the client of Kubernetes. */
export async function openKubeconfig({ paths, context }: Kubeconfig): Promise<ReadConnection> {
  const client = await loadClient();
  const merged = new client.KubeConfig();
  for (const path of paths) {
    const text = await textOf(path, paths.length > 1);
    if (text !== undefined) addTo(merged, parsed(new client.KubeConfig(), path, text));
  }
  if (context !== undefined) merged.setCurrentContext(context);
  const where = paths.join(', ');
  const cluster = merged.getCurrentCluster();
  if (cluster === null) throw terminal('InvalidSpec', `${where}: ${contextProblem(merged, context)}`);
  if (cluster.proxyUrl !== undefined) {
    throw terminal('InvalidSpec', `${where}: cluster ${cluster.name} is behind a proxy-url, which plugset cannot use`);
  }
  const server = serverOf(cluster, where);
  const namespace = merged.getContextObject(merged.getCurrentContext())?.namespace;
  // As kubectl does: whoever listens on the way to `kubectl proxy`, say, learns no credential, unless that is meant.
  if (server.protocol === 'http:' && !cluster.skipTLSVerify)
    return async () => ({ server, tls: {}, headers: {}, namespace });
  return async (signal) => {
    endPluginsBy(signal, merged);
    return { server, ...(await credentialsOf(merged, where)), namespace };
  };
}

/** Loaded late: it costs 85 MB, and under Node 20 it can be loaded only with the undici that plugset's own lock file names. */
async function loadClient(): Promise<typeof Client> {
  try {
    return await import('@kubernetes/client-node');
  } catch (error) {
    const advice = 'it needs Node 22.19 or newer, or plugset installed from its image or its own lock file';
    throw terminal('Internal', `the client of Kubernetes cannot be loaded: ${advice}`, error);
  }
}

async function textOf(path: string, mayBeMissing: boolean): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (mayBeMissing && codeOf(error) === 'ENOENT') return undefined;
    throw transient('AuthenticationFailed', `the kubeconfig ${path} cannot be read (${causeOf(error)})`, error);
  }
}

function parsed(config: Client.KubeConfig, path: string, text: string): Client.KubeConfig {
  try {
    config.loadFromString(text);
    config.makePathsAbsolute(dirname(path));
    config.users = config.users.map((user) => withTokenFile(user, path, text));
    return config;
  } catch {
    // What was thrown quotes the text, and the text has tokens.
    throw terminal('InvalidSpec', `${path} is no kubeconfig that can be used`);
  }
}

/** The client of Kubernetes looks for `token-file`, which nothing writes; the field is `tokenFile`, and goes before a token. */
function withTokenFile(user: Client.User, path: string, text: string): Client.User {
  const file = (parse(text) as RawKubeconfig).users?.find(({ name }) => name === user.name)?.user?.tokenFile;
  if (file === undefined) return user;
  const { token: _, ...rest } = user;
  return { ...rest, authProvider: { name: 'tokenFile', config: { tokenFile: resolve(dirname(path), file) } } };
}

interface RawKubeconfig {
  readonly users?: readonly { readonly name?: string; readonly user?: { readonly tokenFile?: string } }[];
}

/** As kubectl does: the first to name something has named it. */
function addTo(merged: Client.KubeConfig, one: Client.KubeConfig): void {
  merged.clusters.push(...one.clusters.filter(({ name }) => merged.getCluster(name) === null));
  merged.users.push(...one.users.filter(({ name }) => merged.getUser(name) === null));
  merged.contexts.push(...one.contexts.filter(({ name }) => merged.getContextObject(name) === null));
  merged.currentContext ||= one.currentContext;
}

function contextProblem(config: Client.KubeConfig, asked: string | undefined): string {
  const names = config.contexts.map(({ name }) => name).join(', ') || 'none';
  const context = asked ?? config.currentContext;
  if (!context) return `no current-context is set; name one of its contexts (${names})`;
  return `context ${context} is not there, or its cluster is not; its contexts are: ${names}`;
}

/** Its way to run one, which knows no end of it. */
interface PluginRunner {
  execFn?: (command: string, args: readonly string[] | undefined, options: SpawnOptions) => ChildProcess;
}

/** The client of Kubernetes has no door for this: a test notices when it hides its plug-ins elsewhere. */
function endPluginsBy(signal: AbortSignal, config: Client.KubeConfig): void {
  for (const runner of (config as unknown as { readonly authenticators: readonly PluginRunner[] }).authenticators) {
    if (runner.execFn === undefined) continue;
    runner.execFn = (command, args = [], options) =>
      spawn(command, args, { ...options, signal, killSignal: 'SIGKILL' });
  }
}

function serverOf({ name, server }: Client.Cluster, where: string): URL {
  if (URL.canParse(server) && /^https?:/i.test(server)) return new URL(server);
  throw terminal(
    'InvalidSpec',
    `${where}: the server of cluster ${name} is no URL that begins with https:// or http://`,
  );
}

async function credentialsOf(
  config: Client.KubeConfig,
  where: string,
): Promise<Pick<KubeConnection, 'tls' | 'headers'>> {
  const options: RequestOptions = {};
  try {
    await config.applyToHTTPSOptions(options);
  } catch (error) {
    throw cannotSignIn(config, where, error);
  }
  const { ca, cert, key, servername, rejectUnauthorized } = options;
  const tls = { ca, cert, key, servername, rejectUnauthorized };
  return {
    tls: Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined)),
    headers: headersOf(options),
  };
}

/** A plug-in ends with text of its own, which goes to the log only. */
function cannotSignIn(config: Client.KubeConfig, where: string, error: unknown): ReconcileError {
  const plugin = (config.getCurrentUser()?.exec as { command?: string } | undefined)?.command;
  const what = plugin === undefined ? 'a credential cannot be read' : `the credential plug-in ${plugin} gave none`;
  return transient('AuthenticationFailed', `${where}: ${what} (${causeOf(error)})`, error);
}

/** A token from a file ends with the line break of the file. */
function headersOf({ headers, auth }: RequestOptions): Record<string, string> {
  const trimmed = Object.entries(headers ?? {}).map(([name, value]) => [name, String(value).trim()]);
  const basic = typeof auth === 'string' ? { Authorization: `Basic ${Buffer.from(auth).toString('base64')}` } : {};
  return { ...Object.fromEntries(trimmed), ...basic };
}
