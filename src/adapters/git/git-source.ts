import { lstat, realpath } from 'node:fs/promises';
import { join, sep } from 'node:path';

import { aborted, terminal, transient, type ReconcileError } from '../../domain/errors.ts';
import type { SourceRef } from '../../domain/source.ts';
import type { ParsedSource, PluginSource, SourceEntry } from '../../ports/plugin-source.ts';
import { GIT_SCHEMES, parseAddress, type AddressRules, type GitAddress, type GitEndpoint } from './address.ts';
import type { SandboxOptions } from './git-environment.ts';
import { classifyGitFailure, notFound } from './git-failure.ts';
import { GitSandbox, hostOf, type GitResult } from './git-sandbox.ts';
import { readTree } from './git-tree.ts';
import { HostGuard } from './host-guard.ts';
import { HostLanes } from './host-lanes.ts';
import { chooseCommit, isAbbreviatedCommit, refCandidates, refText, type RemoteRefs } from './ref.ts';

export interface GitSourceOptions extends AddressRules, Omit<SandboxOptions, 'maxRepositoryBytes' | 'maxMemoryBytes'> {
  /** Directories under which `git+file` repositories may lie; none: the scheme is refused. */
  readonly fileRoots: readonly string[];
  /** Whether a host may be this machine, or a link-local address. */
  readonly allowLoopback: boolean;
  /** For asking what refs are. Default 25 s. */
  readonly resolveDeadlineMs?: number;
  /** For fetching a commit, until its last file was read. Default 3 min. */
  readonly fetchDeadlineMs?: number;
  /** Default 512 MiB. */
  readonly maxRepositoryBytes?: number;
  /** Default 2 GiB. */
  readonly maxMemoryBytes?: number;
}

const DEFAULTS = {
  resolveDeadlineMs: 25_000,
  fetchDeadlineMs: 180_000,
  maxRepositoryBytes: 512 * 1024 ** 2,
  maxMemoryBytes: 2 * 1024 ** 3,
} as const;

/** Questions to one host at the same time, and fetches besides. */
const RESOLVES_PER_HOST = 8;
const FETCHES_PER_HOST = 4;

const MAX_REDIRECTS = 3;

/** Of refs in one question; the kernel takes 2 MiB of arguments and environment, and 8 bytes for each of them besides. */
const MAX_PATTERN_BYTES = 256 * 1024;

/** A repository as it is reached right now: its url may have moved, and a path was made real. */
interface Repository {
  readonly sandbox: GitSandbox;
  readonly endpoint: GitEndpoint;
  url: string;
}

/**
 * Git repositories, by the system's git: `github`, `gitea`, `git+https`, `git+http`, `git+ssh`, `git+file`. Every ref is
 * resolved to a commit first, and exactly that commit is fetched; nothing is ever checked out.
 */
export class GitSource implements PluginSource {
  readonly schemes: readonly string[] = GIT_SCHEMES;
  readonly #options: GitSourceOptions & Readonly<Record<keyof typeof DEFAULTS, number>>;
  readonly #guard: HostGuard;
  readonly #resolves = new HostLanes(RESOLVES_PER_HOST);
  readonly #fetches = new HostLanes(FETCHES_PER_HOST);

  constructor(options: GitSourceOptions) {
    this.#options = { ...DEFAULTS, ...options };
    this.#guard = new HostGuard(options.allowLoopback, options.clock);
  }

  parse(ref: SourceRef): ParsedSource {
    const address = parseAddress(ref, this.#options);
    return {
      ref,
      group: address.url,
      selector: `${refText(address.ref)} ${address.subPath}`,
      subPath: address.subPath,
      pinned: address.ref.kind === 'commit',
    };
  }

  async resolve(
    wanted: readonly ParsedSource[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<ParsedSource, string | Error>> {
    const addresses = wanted.map((source) => ({ source, address: parseAddress(source.ref, this.#options) }));
    const moving = addresses.filter(({ address }) => address.ref.kind !== 'commit');
    const first = moving[0]?.address;
    const refs: RemoteRefs =
      first === undefined
        ? new Map()
        : await this.#askForRefs(
            first,
            moving.map(({ address }) => address),
            signal,
          );
    return new Map(
      addresses.map(({ source, address }) => [source, chooseCommit(address.ref, refs) ?? noSuchRef(address)]),
    );
  }

  async *fetch(source: ParsedSource, revision: string, signal: AbortSignal): AsyncGenerator<SourceEntry> {
    const address = parseAddress(source.ref, this.#options);
    const leave = await enter(this.#fetches, address, signal);
    try {
      const repository = await this.#open(address, this.#options.fetchDeadlineMs, signal);
      try {
        await fetchCommit(repository, revision);
        yield* readTree(repository.sandbox, await treeOf(repository, revision, address.subPath));
      } catch (error) {
        // What broke because everything was ended is not the news; why it was ended is.
        throw repository.sandbox.stoppedBy ?? error;
      } finally {
        await repository.sandbox.close();
      }
    } finally {
      leave();
    }
  }

  async #askForRefs(first: GitAddress, all: readonly GitAddress[], signal: AbortSignal): Promise<RemoteRefs> {
    const names = new Set(all.flatMap(({ ref }) => refCandidates(ref)));
    const patterns = [...names].flatMap((name) => [name, `${name}^{}`]);
    const leave = await enter(this.#resolves, first, signal);
    try {
      const repository = await this.#open(first, this.#options.resolveDeadlineMs, signal);
      try {
        const refs = new Map<string, string>();
        for (const some of inArguments(patterns)) {
          const asked = await ask(repository, (url) => ['ls-remote', '--', url, ...some]);
          if (asked.kind === 'refused')
            throw notFound(
              `there is no repository ${repository.url}`,
              repository.endpoint,
              repository.sandbox.hasCredential,
            );
          addRefs(refs, asked.result.stdout);
        }
        return refs;
      } finally {
        await repository.sandbox.close();
      }
    } finally {
      leave();
    }
  }

  async #open(address: GitAddress, deadlineMs: number, signal: AbortSignal): Promise<Repository> {
    const { endpoint, url } =
      address.endpoint.protocol === 'file' ? await this.#inRoots(address.endpoint.path) : address;
    const addresses = endpoint.protocol === 'file' ? [] : await this.#guard.checkedAddresses(endpoint.host, signal);
    const sandbox = await GitSandbox.create(this.#options, { url, endpoint, addresses, deadlineMs, signal });
    return { sandbox, endpoint, url };
  }

  /** The real repository directory behind a path; throws unless it lies under a root that the operator has named. */
  async #inRoots(path: string): Promise<{ endpoint: GitEndpoint; url: string }> {
    const roots = await Promise.all(this.#options.fileRoots.map((root) => realpath(root).catch(() => root)));
    const isInside = (candidate: string): boolean =>
      [...this.#options.fileRoots, ...roots].some((root) => candidate === root || candidate.startsWith(root + sep));
    const refusal = terminal(
      'InvalidSource',
      `git+file://${path} is not under a directory that the operator has allowed with --git-root`,
    );
    // Before anything is looked at: the answer must not tell what exists elsewhere.
    if (!isInside(path)) throw refusal;
    const real = await realpath(path).catch((error: unknown) => {
      throw cannotOpen(path, error);
    });
    const dotGit = join(real, '.git');
    const stats = await lstat(dotGit).catch(() => undefined);
    // A `.git` that is a file or a link leads somewhere else; git would follow it out of the root.
    if (stats !== undefined && !stats.isDirectory())
      throw terminal('InvalidSource', `git+file://${path} is a linked worktree; name the repository itself`);
    const directory = stats === undefined ? real : dotGit;
    if (!isInside(directory)) throw refusal;
    return {
      endpoint: { protocol: 'file', path: directory },
      url: `file://${directory.split('/').map(encodeURIComponent).join('/')}`,
    };
  }
}

async function enter(lanes: HostLanes, address: GitAddress, signal: AbortSignal): Promise<() => void> {
  try {
    return await lanes.enter(hostOf(address.endpoint), signal);
  } catch (error) {
    if ((error as Error).name !== 'TimeoutError') throw aborted('waiting for the host was given up', error);
    throw transient('SourceUnavailable', `${hostOf(address.endpoint)} is busy with other repositories`, error);
  }
}

type Asked =
  | { readonly kind: 'answered'; readonly result: GitResult }
  | { readonly kind: 'refused'; readonly knowsEveryCommit: boolean };

/** Runs a command that talks to the repository, wherever that has moved to on its host. Throws when it cannot be talked to. */
async function ask(repository: Repository, argsFor: (url: string) => readonly string[]): Promise<Asked> {
  const { endpoint, sandbox } = repository;
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects += 1) {
    const result = await sandbox.run(...argsFor(repository.url));
    if (result.code === 0) return { kind: 'answered', result };
    const failure = await classifyGitFailure(sandbox, result, repository.url, endpoint);
    if (failure.kind === 'error') throw failure.error;
    if (failure.kind === 'refused') return failure;
    repository.url = failure.url;
  }
  throw terminal('PluginNotFound', `${repository.url} redirects again and again`);
}

/** Gets exactly one commit into the sandbox's repository, and makes sure that it is one. */
async function fetchCommit(repository: Repository, commit: string): Promise<void> {
  const { sandbox } = repository;
  const format = commit.length === 64 ? 'sha256' : 'sha1';
  await mustRun(sandbox, 'init', '--quiet', '--bare', '--template=', `--object-format=${format}`);
  const fetch = [
    'fetch',
    '--quiet',
    '--no-tags',
    '--no-recurse-submodules',
    '--no-write-fetch-head',
    '--no-auto-maintenance',
  ];
  const exact = await ask(repository, (url) => [...fetch, '--depth=1', '--', url, `${commit}:refs/plugset/wanted`]);
  if (exact.kind === 'refused' && !exact.knowsEveryCommit) {
    // A server of protocol 0 gives out what a ref names and nothing else: fetch all that its refs name and look there.
    const all = ['+refs/heads/*:refs/plugset/heads/*', '+refs/tags/*:refs/plugset/tags/*'];
    await ask(repository, (url) => [...fetch, '--', url, ...all]);
  }
  const { code, stdout } = await sandbox.run('cat-file', '-t', commit);
  if (code !== 0) throw terminal('PluginNotFound', `there is no commit ${commit} in ${repository.url}`);
  if (stdout.trim() !== 'commit') {
    throw terminal('PluginNotFound', `${commit} in ${repository.url} is a ${stdout.trim()}, not a commit`);
  }
}

async function treeOf({ sandbox, url }: Repository, commit: string, subPath: string): Promise<string> {
  const tree = `${commit}:${subPath}`;
  const { code, stdout } = await sandbox.run('cat-file', '-t', tree);
  if (code === 0 && stdout.trim() === 'tree') return tree;
  throw terminal('PluginNotFound', `there is no directory ${subPath} in ${url} at ${commit}`);
}

async function mustRun(sandbox: GitSandbox, ...args: readonly string[]): Promise<void> {
  const { code, stderr } = await sandbox.run(...args);
  if (code !== 0) throw transient('SourceUnavailable', `git cannot work on this machine: ${sandbox.scrub(stderr)}`);
}

/** Parts that a command line can carry: whoever declares a thousand long refs must not end everybody's look at a repository. */
function* inArguments(patterns: readonly string[]): Generator<readonly string[]> {
  let part: string[] = [];
  let bytes = 0;
  for (const pattern of patterns) {
    if (bytes + pattern.length > MAX_PATTERN_BYTES) {
      yield part;
      part = [];
      bytes = 0;
    }
    part.push(pattern);
    bytes += pattern.length + 1;
  }
  yield part;
}

function addRefs(refs: Map<string, string>, listing: string): void {
  for (const line of listing.split('\n')) {
    const [id, name] = line.split('\t');
    if (id !== undefined && name !== undefined && /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(id)) refs.set(name, id);
  }
}

function noSuchRef({ ref, url }: GitAddress): ReconcileError {
  const hint = isAbbreviatedCommit(ref) ? '; if an abbreviated commit was meant, give all 40 digits' : '';
  const what = ref.kind === 'tag' ? 'tag' : 'tag or branch';
  const name = ref.kind === 'tag' || ref.kind === 'name' ? ref.name : 'HEAD';
  return terminal('PluginNotFound', `there is no ${what} ${name} in ${url}${hint}`);
}

function cannotOpen(path: string, error: unknown): ReconcileError {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
  if (code === 'ENOENT' || code === 'ENOTDIR') return terminal('PluginNotFound', `there is no repository at ${path}`);
  return transient('SourceUnavailable', `${path} cannot be read (${code})`, error);
}
