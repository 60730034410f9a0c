import { shortDigest, type Digest } from './digest.ts';
import type { PlanAction, PlanEntry, TreeLabel } from './plan.ts';

/** What became of a change: nothing yet, carried out, refused or broken off, or nobody knows. */
export type ChangeOutcome = 'planned' | 'done' | 'failed' | 'unknown';

export interface Verb {
  readonly plain: string;
  readonly past: string;
}

const VERBS: Readonly<Record<PlanAction, Verb>> = {
  install: { plain: 'install', past: 'installed' },
  replace: { plain: 'replace', past: 'replaced' },
  restore: { plain: 'restore', past: 'restored' },
  adopt: { plain: 'adopt', past: 'adopted' },
  configure: { plain: 'configure', past: 'configured' },
  remove: { plain: 'remove', past: 'removed' },
};

/** `replaced superpowers v1.0.0 (0123456789ab) → v1.1.0 (89abcdef0123)`: what was done, for people. */
export function describeChange(entry: PlanEntry, outcome: ChangeOutcome): string {
  return `${inTense(VERBS[entry.action], outcome)} ${entry.plugin} ${treesOf(entry)}`.trimEnd();
}

/** A verb as it is said of something with that outcome. */
export function inTense({ plain, past }: Verb, outcome: ChangeOutcome): string {
  return { planned: plain, done: past, failed: `could not ${plain}`, unknown: `began to ${plain}` }[outcome];
}

/** What a change is about: the tree, for a replacement both, and settings. Empty where nothing is known of it. */
export function treesOf(entry: PlanEntry): string {
  return [treesAlone(entry), settingsOf(entry)].filter((part) => part !== '').join(' ');
}

/** What becomes of its settings; nothing where they stay as they are. */
function settingsOf({ action, settings }: PlanEntry): string {
  if (settings === undefined) return '';
  if (settings === 'write') return action === 'configure' ? '(its settings)' : 'and its settings';
  return action === 'remove' ? 'and its settings' : '(without settings from now on)';
}

function treesAlone({ action, from, to, labels }: PlanEntry): string {
  const before = treeName(from, labels.from);
  const after = treeName(to, labels.to);
  if (action === 'replace') return `${before === '' ? '?' : before} → ${after}`;
  return action === 'remove' ? before : after;
}

/** `v1.0.0 (0123456789ab)`: version and revision, as far as they are known, else the tree digest. */
function treeName(digest: Digest | undefined, { revision, version, isForeign }: TreeLabel = {}): string {
  if (isForeign === true) return version === undefined ? "(not plugset's)" : `${version} (not plugset's)`;
  const name = revision === undefined ? digest && shortDigest(digest) : shortRevision(revision);
  if (version === undefined) return name ?? '';
  return name === undefined ? version : `${version} (${name})`;
}

/** Commits and content hashes by their first 12 digits, anything else whole. */
export function shortRevision(revision: string): string {
  const match = /^(sha256:)?([0-9a-f]{40,64})$/.exec(revision);
  return match?.[2] === undefined ? revision : `${match[1] ?? ''}${match[2].slice(0, 12)}`;
}
