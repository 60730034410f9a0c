import { terminal, type ReconcileError } from './errors.ts';

/** What a plugin may be at most. A tree over any of these is refused as `SourceRejected`, as early as it can be known. */
export interface ArchiveLimits {
  /** Bytes of all files together, copies made for links included. */
  readonly maxBytes: number;
  /** Files and links, as the source has them and again after links became copies. */
  readonly maxEntries: number;
  /** Segments of a path: `a/b/c` has three. */
  readonly maxDepth: number;
  /** UTF-8 bytes of a path. What a target adds in front (config directory, staging) must still fit in its own 4096. */
  readonly maxPathBytes: number;
}

export const DEFAULT_ARCHIVE_LIMITS: ArchiveLimits = {
  maxBytes: 100 * 1024 * 1024,
  maxEntries: 10_000,
  maxDepth: 32,
  maxPathBytes: 1024,
};

/** Longest file name of every file system that targets use (ext4, xfs, overlay). */
const MAX_SEGMENT_BYTES = 255;

/** What is wrong with the path of an entry, as the end of a sentence; `undefined` when nothing is. */
export function pathProblem(path: string, limits: ArchiveLimits): string | undefined {
  const bytes = Buffer.byteLength(path);
  if (bytes > limits.maxPathBytes) return `is ${bytes} bytes long; the limit is ${limits.maxPathBytes}`;
  if (Buffer.from(path).toString() !== path) return 'is not valid UTF-8';
  if (/\p{Cc}/u.test(path)) return 'has a control character';
  // Tools escape it differently in checksum lists, so that `sha256sum -c` would look for another file.
  if (path.includes('\\')) return 'has a backslash';
  if (path.startsWith('/')) return 'is absolute';
  const segments = path.split('/');
  if (segments.length > limits.maxDepth) return `is ${segments.length} levels deep; the limit is ${limits.maxDepth}`;
  if (segments.includes('..')) return 'leaves the plugin';
  if (segments.some((segment) => segment === '' || segment === '.')) return 'has an empty segment';
  if (segments.some((segment) => Buffer.byteLength(segment) > MAX_SEGMENT_BYTES)) {
    return `has a segment of more than ${MAX_SEGMENT_BYTES} bytes`;
  }
  return undefined;
}

/** Whether a path is part of a repository's own book-keeping, which is never part of a plugin. */
export function isVersionControl(path: string): boolean {
  return path.split('/').includes('.git');
}

export function rejected(what: string): ReconcileError {
  return terminal('SourceRejected', `the plugin's content is refused: ${what}`);
}

/** A hostile path in a form that is safe to show: quoted, escaped, short. */
export function showPath(path: string): string {
  const quoted = JSON.stringify(path.length <= 120 ? path : `${path.slice(0, 120)}…`);
  return quoted.replaceAll(/[\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, '?');
}

/** Adds up what a source hands over and refuses at the first entry or byte too many, before it is stored anywhere. */
export class ArchiveBudget {
  readonly #limits: ArchiveLimits;
  #entries = 0;
  #bytes = 0;

  constructor(limits: ArchiveLimits) {
    this.#limits = limits;
  }

  /** One more entry, of so many bytes. */
  add(bytes: number): void {
    this.#entries += 1;
    this.#bytes += bytes;
    if (this.#entries > this.#limits.maxEntries) throw rejected(`more than ${this.#limits.maxEntries} entries`);
    if (this.#bytes > this.#limits.maxBytes) throw rejected(`more than ${this.#limits.maxBytes} bytes`);
  }
}
