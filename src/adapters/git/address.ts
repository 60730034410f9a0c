import { terminal, type ReconcileError } from '../../domain/errors.ts';
import type { SourceRef } from '../../domain/source.ts';
import { parseRef, type RefSelector } from './ref.ts';

/** Where a repository is reached, taken apart: what may be connected to, and which credential fits. */
export type GitEndpoint =
  | { readonly protocol: 'http' | 'https'; readonly host: string; readonly port: number }
  | { readonly protocol: 'ssh'; readonly host: string; readonly port: number; readonly user: string }
  | { readonly protocol: 'file'; readonly path: string };

/** A git source text, understood. */
export interface GitAddress {
  /** As git is told; holds no credential. */
  readonly url: string;
  readonly endpoint: GitEndpoint;
  /** Directory in the repository that is the plugin; empty for the whole of it. */
  readonly subPath: string;
  readonly ref: RefSelector;
}

export interface AddressRules {
  /** Where `github://owner/repo` is, e.g. a GitHub Enterprise: `https://github.example.com`. */
  readonly githubBaseUrl: string;
  /** Where `gitea://owner/repo` is; without it the scheme is refused. */
  readonly giteaBaseUrl?: string | undefined;
  /** Whether `git+http://` may be used. */
  readonly allowHttp: boolean;
  /** Whether a source may leave out `#ref`; then it follows the default branch. */
  readonly allowUnpinned: boolean;
}

export const GIT_SCHEMES = ['github', 'gitea', 'git+https', 'git+http', 'git+ssh', 'git+file'] as const;

const EXAMPLES: Readonly<Record<string, string>> = {
  github: 'github://owner/repo#v1.2.0',
  gitea: 'gitea://owner/repo/sub/path#main',
  'git+https': 'git+https://git.example.com/team/repo.git//sub/path#v1.2.0',
  'git+http': 'git+http://git.example.com/team/repo.git#v1.2.0',
  'git+ssh': 'git+ssh://git@git.example.com/team/repo.git#v1.2.0',
  'git+file': 'git+file:///srv/git/repo.git#v1.2.0',
};

const OWNER_OR_REPO = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$/;
/** Nothing that git, ssh, a URL or a configuration file would read as anything but itself. */
const PATH_SEGMENT = /^[A-Za-z0-9_.~+@,=-]{1,255}$/;
const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])$/;
const USER = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/;
const DEFAULT_PORT = { http: 80, https: 443, ssh: 22 } as const;

/** Pure. Throws `InvalidSource` (terminal) with what is wrong and an example of what is right. */
export function parseAddress(source: SourceRef, rules: AddressRules): GitAddress {
  const hash = source.spec.indexOf('#');
  const place = hash < 0 ? source.spec : source.spec.slice(0, hash);
  const fragment = hash < 0 ? undefined : source.spec.slice(hash + 1);
  const where = parsePlace(source.scheme, place, rules);
  const ref = parseRef(fragment, (problem) => invalid(source.scheme, problem));
  if (ref.kind === 'head' && !rules.allowUnpinned) {
    throw invalid(
      source.scheme,
      'it names no branch, tag or commit after # (the operator has not allowed that with --allow-unpinned)',
    );
  }
  return { ...where, ref };
}

type Place = Omit<GitAddress, 'ref'>;

function parsePlace(scheme: string, place: string, rules: AddressRules): Place {
  switch (scheme) {
    case 'github':
      return onForge(scheme, place, rules.githubBaseUrl, false);
    case 'gitea':
      if (rules.giteaBaseUrl === undefined) throw invalid(scheme, 'no base URL is configured for gitea (--gitea-url)');
      return onForge(scheme, place, rules.giteaBaseUrl, true);
    case 'git+http':
      if (!rules.allowHttp) throw invalid(scheme, 'the operator has not allowed unencrypted http');
      return overHttp(scheme, 'http', place);
    case 'git+https':
      return overHttp(scheme, 'https', place);
    case 'git+ssh':
      return overSsh(scheme, place);
    default:
      return inFiles(scheme, place);
  }
}

function onForge(scheme: string, place: string, baseUrl: string, allowsSubPath: boolean): Place {
  const [owner = '', repo = '', ...sub] = place.split('/');
  const name = repo.replace(/\.git$/, '');
  if (!OWNER_OR_REPO.test(owner) || !OWNER_OR_REPO.test(name)) throw invalid(scheme, 'owner/repo is expected');
  if (sub.length > 0 && !allowsSubPath) throw invalid(scheme, 'a sub-path is not supported here');
  const base = new URL(baseUrl);
  const protocol = base.protocol === 'http:' ? 'http' : 'https';
  const port = base.port === '' ? DEFAULT_PORT[protocol] : Number(base.port);
  return {
    url: `${base.origin}${base.pathname.replace(/\/+$/, '')}/${owner}/${name}.git`,
    endpoint: { protocol, host: base.hostname, port },
    subPath: checkedPath(scheme, sub, 'sub-path'),
  };
}

function overHttp(scheme: string, protocol: 'http' | 'https', place: string): Place {
  const { authority, path, subPath } = splitPlace(scheme, place);
  // A token is often given as the user name, so that a name alone is as much of a secret as a name with a password.
  if (authority.includes('@')) {
    throw invalid(
      scheme,
      'a URL must not carry a user name, password or token; put the credential into a credential file',
    );
  }
  const { host, port } = splitAuthority(scheme, authority, DEFAULT_PORT[protocol]);
  const url = `${protocol}://${host}${port === DEFAULT_PORT[protocol] ? '' : `:${port}`}/${path}`;
  return { url, endpoint: { protocol, host, port }, subPath };
}

function overSsh(scheme: string, place: string): Place {
  const { authority, path, subPath } = splitPlace(scheme, place);
  const at = authority.lastIndexOf('@');
  const user = at < 0 ? 'git' : authority.slice(0, at);
  if (user.includes(':')) throw invalid(scheme, 'a URL must not carry a password; ssh uses the configured key');
  if (!USER.test(user)) throw invalid(scheme, 'the user name has characters that are not allowed');
  const { host, port } = splitAuthority(scheme, authority.slice(at + 1), DEFAULT_PORT.ssh);
  const url = `ssh://${user}@${host}${port === DEFAULT_PORT.ssh ? '' : `:${port}`}/${path}`;
  return { url, endpoint: { protocol: 'ssh', host, port, user }, subPath };
}

function inFiles(scheme: string, place: string): Place {
  if (!place.startsWith('/')) throw invalid(scheme, 'an absolute path is expected');
  const { path, subPath } = splitPlace(scheme, place);
  return { url: `file:///${path}`, endpoint: { protocol: 'file', path: `/${path}` }, subPath };
}

/** `host/path//sub/path`; for a path without host the authority is empty. */
function splitPlace(scheme: string, place: string): { authority: string; path: string; subPath: string } {
  const slash = place.indexOf('/');
  if (slash < 0) throw invalid(scheme, 'a path to the repository is expected');
  const [path = '', ...more] = place.slice(slash + 1).split('//');
  if (more.length > 1) throw invalid(scheme, '// divides repository from sub-path and can be there once');
  return {
    authority: place.slice(0, slash),
    path: checkedPath(scheme, path.split('/'), 'path'),
    subPath: checkedPath(scheme, more[0]?.split('/') ?? [], 'sub-path'),
  };
}

function splitAuthority(scheme: string, authority: string, defaultPort: number): { host: string; port: number } {
  const match = /^(.+?)(?::(\d{1,5}))?$/.exec(authority);
  const host = match?.[1] ?? '';
  const port = match?.[2] === undefined ? defaultPort : Number(match[2]);
  if (!HOST.test(host) || port < 1 || port > 65_535) throw invalid(scheme, 'host or host:port is expected after ://');
  return { host: host.toLowerCase(), port };
}

function checkedPath(scheme: string, segments: readonly string[], what: string): string {
  for (const segment of segments) {
    if (!PATH_SEGMENT.test(segment) || segment === '.' || segment === '..') {
      throw invalid(scheme, `the ${what} has an empty segment, a dot segment or a character that is not allowed`);
    }
  }
  return segments.join('/');
}

/** Repeats nothing of the text: what somebody put there by mistake may be a secret. */
function invalid(scheme: string, problem: string): ReconcileError {
  return terminal('InvalidSource', `${scheme}:// source: ${problem}; for example ${EXAMPLES[scheme] ?? ''}`);
}
