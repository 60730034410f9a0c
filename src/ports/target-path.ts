/* As lease-term.ts: no port, but what adapters of several targets ask, and may import from nowhere else. */

/** Whether an absolute path on a target is a directory there or lies below it; symbolic links are taken for what they look like. */
export function isWithin(path: string, directory: string): boolean {
  const names = namesOf(path);
  return namesOf(directory).every((name, at) => names[at] === name);
}

function namesOf(path: string): readonly string[] {
  const names: string[] = [];
  for (const name of path.split('/')) {
    if (name === '..') names.pop();
    else if (name !== '' && name !== '.') names.push(name);
  }
  return names;
}
