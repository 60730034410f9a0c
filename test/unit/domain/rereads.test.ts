import { describe, expect, it } from 'vitest';

import type { PluginName } from '../../../src/domain/name.ts';
import type { ObservedPlugin } from '../../../src/domain/observation.ts';
import { isTakenUpByItself } from '../../../src/domain/rereads.ts';
import { treeDigest, type TreeLists } from '../../../src/domain/tree.ts';
import { memoryArtifact, type FileContent } from '../../support/memory-artifact.ts';

const BEFORE = {
  'skills/a/SKILL.md': 'old\n',
  'skills/a/run.sh': { content: 'run\n', executable: true },
  'hooks/h.sh': 'old\n',
  'plugin.yaml': 'version: 1\n',
};

describe('isTakenUpByItself', () => {
  const replaced = (
    changes: Readonly<Record<string, FileContent>>,
    rereads = ['skills/**', 'plugin.yaml'],
    seen: Partial<ObservedPlugin> = {},
    action: 'replace' | 'restore' | 'install' | 'remove' = 'replace',
  ): boolean => {
    const lists = listsOf(BEFORE);
    const observed = { name: 'a' as PluginName, manifest: {}, present: true, lists, differing: [], ...seen };
    const entry = { action, from: treeDigest(lists) };
    return isTakenUpByItself(entry, observed, listsOf({ ...BEFORE, ...changes }), rereads);
  };

  it('is true where every changed, added or removed file is reread', () => {
    expect(replaced({ 'skills/a/SKILL.md': 'new\n' })).toBe(true);
    expect(replaced({ 'skills/a/SKILL.md': 'new\n', 'skills/b/deep/er/x.md': 'x', 'plugin.yaml': 'v2' })).toBe(true);
    expect(isTaken({ ...BEFORE, 'skills/c/SKILL.md': 'c\n' }, BEFORE)).toBe(true);
  });

  it('is false where one file is not', () => {
    expect(replaced({ 'skills/a/SKILL.md': 'new\n', 'hooks/h.sh': 'new\n' })).toBe(false);
    expect(replaced({ 'hooks/new.sh': '' })).toBe(false);
    expect(isTaken(BEFORE, { 'skills/a/SKILL.md': 'old\n' })).toBe(false);
  });

  it('takes a file that becomes executable for a changed one', () => {
    expect(replaced({ 'hooks/h.sh': { content: 'old\n', executable: true } })).toBe(false);
  });

  it('matches whole paths: * stays within a segment, ** goes over any number of them', () => {
    const text = { 'skills/a/SKILL.md': 'new\n' };
    expect(replaced(text, ['skills/*/*.md'])).toBe(true);
    expect(replaced(text, ['**/*.md'])).toBe(true);
    expect(replaced(text, ['skills/**/SKILL.md'])).toBe(true);
    expect(replaced(text, ['skills/?/SKILL.md'])).toBe(true);
    expect(replaced(text, ['skills/*'])).toBe(false);
    expect(replaced(text, ['skills'])).toBe(false);
    expect(replaced(text, ['SKILL.md'])).toBe(false);
    expect(replaced(text, ['skills/a/SKILL-md'])).toBe(false);
    expect(replaced(text, ['skills/a/SKILL.m'])).toBe(false);
    expect(replaced(text, [])).toBe(false);
  });

  it('is false where nobody knows what lay there', () => {
    const text = { 'skills/a/SKILL.md': 'new\n' };
    expect(replaced(text, undefined, { lists: undefined })).toBe(false);
    expect(replaced(text, undefined, { lists: listsOf({ 'skills/a/SKILL.md': 'other\n' }) })).toBe(false);
    expect(replaced(text, undefined, { differing: ['hooks/h.sh'] })).toBe(false);
    expect(replaced(text, undefined, { differing: Array.from({ length: 20 }, () => 'skills/a/SKILL.md') })).toBe(false);
    expect(isTakenUpByItself({ action: 'replace' }, undefined, listsOf(BEFORE), ['**'])).toBe(false);
  });

  it('is true of a restore where only files that are reread had been changed by hand', () => {
    expect(replaced({}, undefined, { differing: ['skills/a/SKILL.md'] }, 'restore')).toBe(true);
    expect(replaced({}, undefined, { differing: ['skills/a/SKILL.md', 'hooks/h.sh'] }, 'restore')).toBe(false);
  });

  it('is false for a plugin that comes or goes as a whole', () => {
    expect(replaced({}, ['**'], {}, 'install')).toBe(false);
    expect(replaced({}, ['**'], {}, 'remove')).toBe(false);
  });

  function isTaken(before: Record<string, FileContent>, after: Record<string, FileContent>): boolean {
    const lists = listsOf(before);
    const observed = { name: 'a' as PluginName, manifest: {}, present: true, lists, differing: [] };
    const entry = { action: 'replace' as const, from: treeDigest(lists) };
    return isTakenUpByItself(entry, observed, listsOf(after), ['skills/**']);
  }
});

function listsOf(contents: Readonly<Record<string, FileContent>>): TreeLists {
  return memoryArtifact(contents).lists;
}
