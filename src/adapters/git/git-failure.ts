import { terminal, transient, type ReconcileError } from '../../domain/errors.ts';
import type { GitEndpoint } from './address.ts';
import { hostOf, type GitResult, type GitSandbox } from './git-sandbox.ts';

/**
 * git ends with 128 whatever went wrong, so what happened is read from what carries codes: the status lines in its HTTP
 * trace, the exit code of ssh, and the format strings (never the filled-in texts) of its trace2 error events, which exist to
 * tell errors apart. The one exception is ssh's own code 255, which stands for everything: there its text is looked
 * at, in English because of LC_ALL=C. Of a bad certificate git has nothing but text, so another handshake asks for its
 * code. Whatever is not recognised may pass by itself.
 */
export type GitFailure =
  | { readonly kind: 'error'; readonly error: ReconcileError }
  /** The repository is somewhere else on the same host. */
  | { readonly kind: 'moved'; readonly url: string }
  /** The repository is there and will not give what was asked for. */
  | { readonly kind: 'refused'; readonly knowsEveryCommit: boolean };

/** Formats of the errors that mean a refusal of the object, in protocol 2 and in protocol 0. */
const REFUSALS = new Set([
  'remote error: %s',
  'Server does not allow request for unadvertised object %s',
  "no such remote ref '%s'",
  "couldn't find remote ref %s",
]);

export async function classifyGitFailure(
  sandbox: GitSandbox,
  result: GitResult,
  url: string,
  endpoint: GitEndpoint,
): Promise<GitFailure> {
  const detail = sandbox.scrub(result.stderr);
  if (result.code === 126 || result.code === 127) {
    return error(transient('SourceUnavailable', `git cannot be started on this machine: ${detail}`));
  }
  const trace = await sandbox.trace('git-trace');
  if (isRefusal(trace)) return { kind: 'refused', knowsEveryCommit: speaksProtocol2(trace) };
  const offered = sandbox.hasCredential;
  switch (endpoint.protocol) {
    case 'http':
    case 'https': {
      const curlTrace = await sandbox.trace('curl-trace');
      const problem = curlTrace.includes('=> Send header') ? undefined : await sandbox.certificateProblem();
      if (problem !== undefined) return error(untrusted(endpoint.host, problem));
      return httpFailure(curlTrace, url, endpoint, offered, detail);
    }
    case 'ssh':
      return error(sshFailure((await sandbox.trace('ssh-exit')).trim(), url, endpoint.host, offered, detail));
    case 'file':
      return error(transient('SourceUnavailable', `${url} cannot be read: ${detail}`));
  }
}

/** The repository is not there, or not for us: servers do not say which. */
export function notFound(what: string, endpoint: GitEndpoint, offered: boolean): ReconcileError {
  const host = hostOf(endpoint);
  if (endpoint.protocol === 'file') return terminal('PluginNotFound', what);
  const credential = offered
    ? `the credential configured for ${host} was offered`
    : `no credential is configured for ${host} and this workspace, in case it is private: sources.gitCredentials`;
  return terminal('PluginNotFound', `${what} (${credential})`);
}

function untrusted(host: string, problem: string): ReconcileError {
  return terminal(
    'AuthenticationFailed',
    `the certificate of ${host} is not trusted (${problem}); if it is the right one, name the authority behind it with --ca-file`,
  );
}

function httpFailure(
  trace: string,
  url: string,
  endpoint: Extract<GitEndpoint, { protocol: 'http' | 'https' }>,
  offered: boolean,
  detail: string,
): GitFailure {
  const { status, location } = lastResponse(trace);
  if (status === undefined)
    return error(transient('SourceUnavailable', `${endpoint.host} cannot be reached: ${detail}`));
  if (status === 401 || status === 403) {
    if (!offered) return error(notFound(`there is no repository ${url} for us to see`, endpoint, offered));
    return error(
      terminal(
        'AuthenticationFailed',
        `${endpoint.host} refused the credential configured for it (${status}) for ${url}`,
      ),
    );
  }
  if (status === 404 || status === 410) return error(notFound(`there is no repository ${url}`, endpoint, offered));
  if (status >= 300 && status < 400) return movedTo(url, location);
  const how = status < 300 ? 'broke off its answer' : `answered ${status}`;
  return error(transient('SourceUnavailable', `${endpoint.host} ${how} about ${url}: ${detail}`));
}

/** Status and Location of the last response in a trace of curl. */
function lastResponse(trace: string): { status: number | undefined; location: string | undefined } {
  const headers = [...trace.matchAll(/<= Recv header: (.*)/g)].map((match) => match[1] ?? '');
  const last = headers.findLastIndex((header) => /^HTTP\/[\d.]+ \d{3}/.test(header));
  if (last < 0) return { status: undefined, location: undefined };
  const location = headers.slice(last).find((header) => /^location:/i.test(header));
  return { status: Number(headers[last]?.split(' ')[1]), location: location?.slice('location:'.length).trim() };
}

/** Forges redirect renamed repositories. Within a host that is followed; to another one the credential must not go. */
function movedTo(from: string, location: string | undefined): GitFailure {
  const old = new URL(from);
  const target =
    location !== undefined && URL.canParse(location, `${from}/`) ? new URL(location, `${from}/`) : undefined;
  const path = target?.pathname.replace(/\/info\/refs$/, '') ?? '';
  const isEncrypted = target?.protocol === 'https:' || target?.protocol === old.protocol;
  const staysThere =
    target?.host === old.host ||
    (target?.hostname === old.hostname && target.protocol === 'https:' && target.port === '');
  if (target !== undefined && isEncrypted && staysThere && target.username === '' && path !== old.pathname) {
    return { kind: 'moved', url: `${target.origin}${path}` };
  }
  const where = target === undefined ? 'nowhere' : target.host;
  return error(
    terminal(
      'PluginNotFound',
      `${from} redirects to ${where}, which is not followed; declare the source by its new address`,
    ),
  );
}

function sshFailure(code: string, url: string, host: string, offered: boolean, detail: string): ReconcileError {
  if (code === '126' || code === '127')
    return transient('SourceUnavailable', `ssh or the program behind it is missing: ${detail}`);
  // Any other code is that of the program on the server, which got as far as looking for the repository.
  if (code !== '' && code !== '255')
    return notFound(`there is no repository ${url}`, { protocol: 'ssh', host, port: 0, user: '' }, offered);
  if (/host key verification failed|host key is known|identification has changed/i.test(detail)) {
    return terminal(
      'AuthenticationFailed',
      `the host key of ${host} is not the one in the known_hosts file: ${detail}`,
    );
  }
  if (/permission denied|too many authentication failures/i.test(detail)) {
    const key = offered ? 'refused the key configured for it' : 'wants a key, and none is configured for it';
    return terminal('AuthenticationFailed', `${host} ${key}`);
  }
  return transient('SourceUnavailable', `${host} cannot be reached: ${detail}`);
}

function isRefusal(trace: string): boolean {
  return events(trace).some((event) => event.event === 'error' && REFUSALS.has(event.fmt ?? ''));
}

function speaksProtocol2(trace: string): boolean {
  return events(trace).some((event) => event.key === 'negotiated-version' && event.value === '2');
}

interface TraceEvent {
  readonly event?: string;
  readonly fmt?: string;
  readonly key?: string;
  readonly value?: string;
}

function events(trace: string): readonly TraceEvent[] {
  return trace.split('\n').flatMap((line) => {
    try {
      return line === '' ? [] : [JSON.parse(line) as TraceEvent];
    } catch {
      return []; // The last line of a process that was killed.
    }
  });
}

function error(reason: ReconcileError): GitFailure {
  return { kind: 'error', error: reason };
}
