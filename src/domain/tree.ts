import { compareBytes, hexOf, sha256, type Digest } from './digest.ts';

/** One regular file of a plugin. Directories exist only as parts of paths; links were turned into copies at packing. */
export interface TreeFile {
  /** Relative, `/`-separated, no `.` or `..` segment, no control character, no backslash. */
  readonly path: string;
  /** Hex SHA-256 of the content. */
  readonly sha256: string;
  readonly size: number;
  readonly executable: boolean;
}

/**
 * The two texts that identify a tree and lie beside its receipt on the target.
 * `files` is what `sha256sum -c` reads: `<hex>  <path>` LF, sorted by path in bytes. `executables`: one path a line.
 */
export interface TreeLists {
  readonly files: string;
  readonly executables: string;
}

export function treeLists(files: readonly TreeFile[]): TreeLists {
  const sorted = files.toSorted((a, b) => compareBytes(a.path, b.path));
  return {
    files: sorted.map((file) => `${file.sha256}  ${file.path}\n`).join(''),
    executables: sorted
      .filter((file) => file.executable)
      .map((file) => `${file.path}\n`)
      .join(''),
  };
}

/**
 * The tree digest: SHA-256 over the hex digests of the two lists, one a line. By hand, in `<configDir>/.plugset`:
 * `sha256sum files/NAME executables/NAME | cut -d' ' -f1 | sha256sum`. Built of the two digests rather than of the
 * joined texts so that one `sha256sum` process on the target answers for every plugin at once.
 */
export function treeDigest(lists: TreeLists): Digest {
  return treeDigestOf(sha256(lists.files), sha256(lists.executables));
}

/** The tree digest of two lists of which only the digests are known, as a look at a target reports them. */
export function treeDigestOf(filesDigest: Digest, executablesDigest: Digest): Digest {
  return sha256(`${hexOf(filesDigest)}\n${hexOf(executablesDigest)}\n`);
}
