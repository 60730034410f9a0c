import { createHash } from 'node:crypto';
import { realpath, stat } from 'node:fs/promises';
import { join, sep } from 'node:path';

import { DEFAULT_ARCHIVE_LIMITS, rejected, type ArchiveLimits } from '../../domain/archive.ts';
import { aborted, classifyError, terminal, transient } from '../../domain/errors.ts';
import { isName, NAME_RULE } from '../../domain/name.ts';
import type { SourceRef } from '../../domain/source.ts';
import { untilAborted } from '../../ports/abort.ts';
import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { ParsedSource, PluginSource, SourceEntry } from '../../ports/plugin-source.ts';
import { readWalked, signatureOf, targetOf, unreadable, walkTree, type WalkedEntry } from './walk-tree.ts';

export interface LocalSourceOptions {
  /** Registry directories in the order in which they are looked at. The plugin `x` is the directory `x` in one of them. */
  readonly dirs: readonly string[];
  readonly clock: Clock;
  /** A plugin over these is refused before a file of it is read. */
  readonly limits?: ArchiveLimits;
}

/** Longest that reading one plugin may take. */
const DEADLINE_MS = 60_000;

/** What is younger may change again without its time stamps moving: they come from a clock that ticks. */
const SETTLED_MS = 2_000;

interface Remembered {
  readonly signature: string;
  readonly revision: string;
}

/**
 * `local://name` and bare names: directories of the operator's on this machine. The revision is a hash of the content,
 * which is read again only when something below the directory stirred (time stamps, sizes, inodes, modes).
 */
export class LocalSource implements PluginSource {
  readonly schemes: readonly string[] = ['local'];
  readonly #options: LocalSourceOptions;
  readonly #limits: ArchiveLimits;
  /** By real path of the plugin. */
  readonly #remembered = new Map<string, Remembered>();

  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: LocalSourceOptions) {
    this.#options = options;
    this.#limits = options.limits ?? DEFAULT_ARCHIVE_LIMITS;
  }

  parse(ref: SourceRef): ParsedSource {
    if (!isName(ref.spec)) {
      const example = 'for example local://superpowers';
      throw terminal(
        'InvalidSource',
        `${ref.text}: a plugin of the local registry is named by ${NAME_RULE}; ${example}`,
      );
    }
    // A group each: nobody should wait until every plugin of the fleet was looked at.
    return { ref, group: ref.text, selector: ref.spec, subPath: ref.spec, pinned: false };
  }

  async resolve(
    wanted: readonly ParsedSource[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<ParsedSource, string | Error>> {
    const answers = new Map<ParsedSource, string | Error>();
    for (const source of wanted) {
      const answer = this.#inTurn(() => this.#resolveOne(source, signal));
      answers.set(source, await untilAborted(answer, signal).catch(classifyError));
      if (signal.aborted) throw aborted('reading the local registry was given up', signal.reason);
    }
    return answers;
  }

  async *fetch(source: ParsedSource, revision: string, signal: AbortSignal): AsyncGenerator<SourceEntry> {
    const root = await this.#locate(source.subPath);
    const deadline = new Deadline(this.#options.clock, DEADLINE_MS, signal);
    try {
      const entries = await walkTree(root, this.#limits, deadline.signal);
      const signature = signatureOf(entries);
      if ((await this.#revision(root, entries, deadline.signal)) !== revision) throw moved(source);
      for (const entry of entries) {
        deadline.signal.throwIfAborted();
        yield await toSourceEntry(entry);
      }
      // Contents were read between two equal signatures, so they are those that the revision was computed of.
      if (signatureOf(await walkTree(root, this.#limits, deadline.signal)) !== signature) throw moved(source);
    } catch (error) {
      throw endedBy(error, deadline);
    } finally {
      deadline.clear();
    }
  }

  /** One after the other: behind all of them is one disk, and a registry has more files than a process may open. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #resolveOne(source: ParsedSource, signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    const root = await this.#locate(source.subPath);
    const deadline = new Deadline(this.#options.clock, DEADLINE_MS, signal);
    try {
      return await this.#revision(root, await walkTree(root, this.#limits, deadline.signal), deadline.signal);
    } catch (error) {
      throw endedBy(error, deadline);
    } finally {
      deadline.clear();
    }
  }

  /** Real path of the plugin in the first registry directory that has it. */
  async #locate(name: string): Promise<string> {
    const { dirs } = this.#options;
    for (const dir of dirs) {
      // A registry that is away (not mounted) must not make one further down the list take its place.
      const registry = await realpath(dir).catch((error: unknown) => {
        throw unreadable(dir, error);
      });
      const path = await realpath(join(registry, name)).catch((error: unknown) => {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw unreadable(join(registry, name), error);
      });
      if (path === undefined) continue;
      if (!path.startsWith(registry + sep))
        throw rejected(`${join(dir, name)} is a link that leads out of the registry`);
      if (!(await stat(path)).isDirectory()) throw terminal('PluginNotFound', `${join(dir, name)} is no directory`);
      return path;
    }
    const looked = dirs.length === 0 ? 'no registry directory is configured' : `looked in ${dirs.join(', ')}`;
    throw terminal('PluginNotFound', `there is no plugin ${name} in the local registry (${looked})`);
  }

  async #revision(root: string, entries: readonly WalkedEntry[], signal: AbortSignal): Promise<string> {
    const signature = signatureOf(entries);
    const remembered = this.#remembered.get(root);
    if (remembered?.signature === signature) return remembered.revision;
    const revision = await hashContent(entries, signal);
    if (this.#isSettled(entries)) this.#remembered.set(root, { signature, revision });
    else this.#remembered.delete(root);
    return revision;
  }

  #isSettled(entries: readonly WalkedEntry[]): boolean {
    const settledBeforeMs = BigInt(Math.floor(this.#options.clock.now() - SETTLED_MS));
    return entries.every(({ stats }) => stats.ctimeMs < settledBeforeMs);
  }
}

function endedBy(error: unknown, { cause, signal }: Deadline): unknown {
  if (cause === 'aborted') return aborted('reading the local registry was given up', signal.reason);
  if (cause === undefined) return error;
  return transient('SourceUnavailable', `reading the plugin took longer than ${DEADLINE_MS / 1000} s`, error);
}

/** Of paths, kinds, executable bits, contents and link targets: what a tree is made of before links became copies. */
async function hashContent(entries: readonly WalkedEntry[], signal: AbortSignal): Promise<string> {
  const revision = createHash('sha256');
  for (const entry of entries) {
    signal.throwIfAborted();
    const content = createHash('sha256');
    if (entry.kind === 'file') for await (const chunk of readWalked(entry)) content.update(chunk);
    else content.update(entry.kind === 'link' ? await targetOf(entry) : entry.what);
    revision.update(`${entry.kind}${isExecutable(entry) ? ' x' : ''} ${content.digest('hex')}  ${entry.path}\0`);
  }
  return `sha256:${revision.digest('hex')}`;
}

async function toSourceEntry(entry: WalkedEntry): Promise<SourceEntry> {
  const { kind, path, stats, what } = entry;
  if (kind === 'other') return { kind, path, what };
  if (kind === 'link') return { kind, path, target: await targetOf(entry) };
  return { kind, path, executable: isExecutable(entry), size: Number(stats.size), content: readWalked(entry) };
}

function isExecutable({ kind, stats }: WalkedEntry): boolean {
  return kind === 'file' && (stats.mode & 0o100n) !== 0n;
}

function moved(source: ParsedSource): Error {
  return transient('SourceUnavailable', `${source.ref.text} changed since it was looked at; it is looked at again`);
}
