import type { FileChanges } from '../domain/file-changes.ts';
import type { Row } from './table.ts';

const SHOWN = 8;

/** Under a replacement: how many files, and the names of the first few; nothing where that is not known. */
export function filesRows(files: FileChanges | undefined): readonly Row[] {
  if (files === undefined) return [];
  const kinds = [
    ['+', 'added', files.added],
    ['~', 'changed', files.changed],
    ['-', 'removed', files.removed],
  ] as const;
  const names = kinds.flatMap(([mark, , paths]) => paths.map((path) => `${mark} ${path}`));
  if (names.length === 0) return [];
  const counts = kinds.filter(([, , paths]) => paths.length > 0).map(([, what, paths]) => `${paths.length} ${what}`);
  const more = names.length > SHOWN ? ` and ${names.length - SHOWN} more` : '';
  const text = `files: ${counts.join(', ')}: ${names.slice(0, SHOWN).join(', ')}${more}`;
  return [['', '', { text, color: 'dim' }]];
}
