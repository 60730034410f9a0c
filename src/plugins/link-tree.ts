import { isVersionControl, pathProblem, rejected, showPath, type ArchiveLimits } from '../domain/archive.ts';

/*
 * A plugin as its source has it, links included, and the same plugin without links: what a link inside the plugin points
 * at is copied to where the link is. Links are followed here, in memory, the way a kernel would follow them, so that no
 * link ever exists on a disk of ours.
 */

interface Directory<F> {
  readonly kind: 'directory';
  readonly parent: Directory<F> | undefined;
  readonly children: Map<string, Node<F>>;
}

interface File<F> {
  readonly kind: 'file';
  readonly file: F;
}

interface Link {
  readonly kind: 'link';
  readonly target: string;
}

type Node<F> = Directory<F> | File<F> | Link;

/** As many links as Linux follows in one path, and as long a target. */
const MAX_LINKS_FOLLOWED = 40;
const MAX_TARGET_BYTES = 4096;

export class LinkTree<F> {
  readonly #root: Directory<F> = { kind: 'directory', parent: undefined, children: new Map() };
  readonly #limits: ArchiveLimits;

  constructor(limits: ArchiveLimits) {
    this.#limits = limits;
  }

  /** Whether the path is the plugin's business at all; throws `SourceRejected` when no plugin may have it. */
  accepts(path: string): boolean {
    const problem = pathProblem(path, this.#limits);
    if (problem !== undefined) throw rejected(`path ${showPath(path)} ${problem}`);
    return !isVersionControl(path);
  }

  addFile(path: string, file: F): void {
    this.#add(path, { kind: 'file', file });
  }

  addLink(path: string, target: string): void {
    if (Buffer.byteLength(target) > MAX_TARGET_BYTES)
      throw rejected(`the target of link ${showPath(path)} is too long`);
    this.#add(path, { kind: 'link', target });
  }

  /** Every file of the plugin under its final path, copies for links included, in no order. */
  *files(): Generator<{ readonly path: string; readonly file: F }> {
    yield* this.#walk(this.#root, '', new Set());
  }

  #add(path: string, node: Node<F>): void {
    const segments = path.split('/');
    const name = segments.pop() as string;
    let directory = this.#root;
    for (const segment of segments) {
      let child = directory.children.get(segment);
      if (child === undefined) {
        child = { kind: 'directory', parent: directory, children: new Map() };
        directory.children.set(segment, child);
      }
      if (child.kind !== 'directory')
        throw rejected(`path ${showPath(path)} goes through something that is no directory`);
      directory = child;
    }
    if (directory.children.has(name)) throw rejected(`path ${showPath(path)} comes twice`);
    directory.children.set(name, node);
  }

  /** `entered`: the directories we are in, by what they are and not by how they were reached; to see loops. */
  *#walk(
    directory: Directory<F>,
    prefix: string,
    entered: ReadonlySet<Directory<F>>,
  ): Generator<{ readonly path: string; readonly file: F }> {
    const inside = new Set(entered).add(directory);
    for (const [name, child] of directory.children) {
      const path = prefix + name;
      const node = child.kind === 'link' ? this.#follow(directory, child.target, path, { followed: 0 }) : child;
      if (node.kind === 'file') {
        this.accepts(path);
        yield { path, file: node.file };
        continue;
      }
      if (inside.has(node)) throw rejected(`link ${showPath(path)} leads to a directory that it is in itself`);
      // Before going down: a chain of directory links can be deep and branch at every level.
      this.accepts(path);
      yield* this.#walk(node, `${path}/`, inside);
    }
  }

  #follow(from: Directory<F>, target: string, path: string, state: { followed: number }): Directory<F> | File<F> {
    state.followed += 1;
    if (state.followed > MAX_LINKS_FOLLOWED)
      throw rejected(`link ${showPath(path)} is part of a loop or a chain too long`);
    const escaping = rejected(`link ${showPath(path)} points out of the plugin, to ${showPath(target)}`);
    if (target.startsWith('/')) throw escaping;
    const dangling = rejected(`link ${showPath(path)} points to ${showPath(target)}, which is not in the plugin`);
    if (target === '') throw dangling;
    let node: Directory<F> | File<F> = from;
    for (const segment of target.split('/')) {
      if (node.kind !== 'directory') throw dangling;
      if (segment === '' || segment === '.') continue;
      if (segment === '..') {
        if (node.parent === undefined) throw escaping;
        node = node.parent;
        continue;
      }
      const child: Node<F> | undefined = node.children.get(segment);
      if (child === undefined) throw dangling;
      node = child.kind === 'link' ? this.#follow(node, child.target, path, state) : child;
    }
    return node;
  }
}
