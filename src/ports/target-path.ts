/* As lease-term.ts: no port, but what adapters of several targets ask, and may import from nowhere else. */

/** Whether an absolute path on a target is `directory` or lies below it, by the text of both: no symbolic link is followed. */
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
