/** What a source asks for after `#`. */
export type RefSelector =
  | { readonly kind: 'commit'; readonly id: string }
  /** `tag:v1.0.0`: a tag and nothing else. */
  | { readonly kind: 'tag'; readonly name: string }
  /** A tag or a branch, or the full name of a ref. */
  | { readonly kind: 'name'; readonly name: string }
  /** No `#` at all: the default branch. */
  | { readonly kind: 'head' };

/** Refs by full name, as `ls-remote` lists them; an annotated tag has a second entry `<name>^{}` with what it points at. */
export type RemoteRefs = ReadonlyMap<string, string>;

const FULL_COMMIT = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/i;
const ABBREVIATED_COMMIT = /^[0-9a-f]{4,39}$/i;
const REF_NAME = /^[A-Za-z0-9_.][A-Za-z0-9_.+@/-]{0,254}$/;

/** `refuse` makes the error of a problem. */
export function parseRef(fragment: string | undefined, refuse: (problem: string) => Error): RefSelector {
  if (fragment === undefined || fragment === 'HEAD') return { kind: 'head' };
  if (fragment.startsWith('sha:')) {
    const id = fragment.slice('sha:'.length);
    if (FULL_COMMIT.test(id)) return { kind: 'commit', id: id.toLowerCase() };
    throw refuse(
      'after sha: a full commit of 40 (or 64) hex digits is expected; an abbreviated one can come to mean another',
    );
  }
  if (FULL_COMMIT.test(fragment)) return { kind: 'commit', id: fragment.toLowerCase() };
  const isTag = fragment.startsWith('tag:');
  const name = isTag ? fragment.slice('tag:'.length) : fragment;
  if (!REF_NAME.test(name) || /\.\.|\/\/|\/\.|[/.]$|\.lock(?:\/|$)|@\{/.test(name)) {
    throw refuse('after # a branch, a tag, tag:NAME, sha:COMMIT or a full commit is expected');
  }
  return { kind: isTag ? 'tag' : 'name', name };
}

/** Full names a selector may stand for, in git's own order: tags win over branches. */
export function refCandidates(selector: RefSelector): readonly string[] {
  switch (selector.kind) {
    case 'commit':
      return [];
    case 'head':
      return ['HEAD'];
    case 'tag':
      return [`refs/tags/${selector.name}`];
    case 'name': {
      const { name } = selector;
      const full = name.startsWith('refs/') ? [name] : [];
      return [...full, `refs/${name}`, `refs/tags/${name}`, `refs/heads/${name}`];
    }
  }
}

/** The commit that a selector stands for, peeled; `undefined` when there is no such ref. */
export function chooseCommit(selector: RefSelector, refs: RemoteRefs): string | undefined {
  if (selector.kind === 'commit') return selector.id;
  const name = refCandidates(selector).find((candidate) => refs.has(candidate));
  return name === undefined ? undefined : (refs.get(`${name}^{}`) ?? refs.get(name));
}

/** One form for every way to write it: part of what tells two sources apart. */
export function refText(selector: RefSelector): string {
  switch (selector.kind) {
    case 'commit':
      return `sha:${selector.id}`;
    case 'head':
      return 'HEAD';
    case 'tag':
      return `tag:${selector.name}`;
    case 'name':
      return selector.name;
  }
}

export function isAbbreviatedCommit(selector: RefSelector): boolean {
  return selector.kind === 'name' && ABBREVIATED_COMMIT.test(selector.name);
}
