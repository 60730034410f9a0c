import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect } from 'vitest';

const FILES = 20;

/** Twenty files that all say the same: a tree is whole when every one says one thing. */
export function wholeTree(content: string): Record<string, string> {
  return Object.fromEntries(Array.from({ length: FILES }, (_, index) => [`skills/s${index}/SKILL.md`, `${content}\n`]));
}

/** What the files of a {@link wholeTree} say; `undefined`: nothing is there. Fails where it is torn. */
export async function contentOf(dir: string): Promise<string | undefined> {
  const skills = await readdir(join(dir, 'skills')).catch(() => undefined);
  if (skills === undefined) return undefined;
  const contents = new Set(
    await Promise.all(skills.map((skill) => readFile(join(dir, 'skills', skill, 'SKILL.md'), 'utf8'))),
  );
  expect(skills, `a torn tree in ${dir}`).toHaveLength(FILES);
  expect([...contents], `two revisions in one tree in ${dir}`).toHaveLength(1);
  return [...contents][0]?.trim();
}
