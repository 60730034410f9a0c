import { hexOf, type Digest } from './digest.ts';
import type { PluginName, WorkspaceKey } from './name.ts';
import type { Observation, ObservedPlugin, Receipt } from './observation.ts';
import type { DesiredPlugin, Plan, ResolvedPlugin } from './plan.ts';
import type { TreeLists } from './tree.ts';

/** What must be found at a place before it is changed; anything else and the whole transaction does nothing. */
export type Expectation =
  | { readonly kind: 'absent' }
  /** A tree with the file list of this hex digest, or a file of this content. */
  | { readonly kind: 'sha256'; readonly sha256: string }
  /** A tree without a file list beside it: not installed by plugset, or its list was deleted on the target. */
  | { readonly kind: 'unmanaged' };

/**
 * One step of a transaction. Paths of files are relative to the config directory, `/`-separated, and obey
 * `isSafePath`. Content is not in here: it is streamed by the PluginHost from what `digest` names.
 */
export type Operation =
  | {
      readonly kind: 'put-tree';
      readonly plugin: PluginName;
      readonly expect: Expectation;
      readonly digest: Digest;
      readonly receipt: Receipt;
    }
  /** Takes over an equal tree that is unmanaged or another workspace's: list and receipt are written, no byte of it moves. */
  | {
      readonly kind: 'adopt-tree';
      readonly plugin: PluginName;
      readonly expect: Expectation;
      readonly digest: Digest;
      readonly lists: TreeLists;
      readonly receipt: Receipt;
    }
  | { readonly kind: 'remove-tree'; readonly plugin: PluginName; readonly expect: Expectation }
  | {
      readonly kind: 'put-file';
      readonly path: string;
      readonly expect: Expectation;
      readonly content: Uint8Array;
      /** Permission bits, e.g. 0o600. */
      readonly mode: number;
    }
  | { readonly kind: 'remove-file'; readonly path: string; readonly expect: Expectation }
  /** What lies at `from`, as it will be after the trees of this transaction came; nothing is done unless it has this hash. */
  | {
      readonly kind: 'copy-file';
      readonly path: string;
      readonly expect: Expectation;
      readonly from: string;
      /** Hex. */
      readonly sha256: string;
    }
  /** Keeps what is there now, whatever it is, under `.plugset/base/`: a copy of a file, a mark for a directory. */
  | { readonly kind: 'save-file'; readonly path: string }
  /** Only if it is empty by then. */
  | { readonly kind: 'remove-directory'; readonly path: string };

/** A plan made concrete for one target: all of it is committed at one point, or nothing has happened. */
export interface Transaction {
  /** Plan id without its `sha256:`; names the staging directory and the journal entry. */
  readonly id: string;
  readonly operations: readonly Operation[];
}

/** A path that can be joined under a directory: relative, no empty, `.` or `..` segment, no backslash or control character. */
export function isSafePath(path: string): boolean {
  // oxlint-disable-next-line no-control-regex -- refusing control characters is the point
  if (path.length === 0 || path.length > 4096 || /[\u0000-\u001f\u007f\\]/.test(path)) return false;
  return path.split('/').every((segment) => segment !== '' && segment !== '.' && segment !== '..');
}

/** A safe path that a file operation can name: the script on the target takes what follows a word, without blanks around it. */
export function isPlainPath(path: string): boolean {
  return isSafePath(path) && path === path.trim();
}

export interface TransactionContext {
  readonly workspace: WorkspaceKey;
  readonly authority: string;
}

/** Makes a plan concrete: each entry with what must be found, and the receipt it leaves. */
export function compileTransaction(
  plan: Plan,
  desired: readonly DesiredPlugin[],
  observation: Observation,
  context: TransactionContext,
): Transaction {
  const wanted = new Map(
    desired.flatMap((plugin) => (plugin.kind === 'resolved' ? [[plugin.name, plugin] as const] : [])),
  );
  const observed = new Map(observation.plugins.map((plugin) => [plugin.name, plugin]));
  return {
    id: hexOf(plan.id),
    operations: plan.entries.flatMap((entry): readonly Operation[] => {
      // Files, which take a look of their own.
      if (entry.action === 'configure') return [];
      const expect = expectationOf(observed.get(entry.plugin));
      if (entry.action === 'remove') return [{ kind: 'remove-tree', plugin: entry.plugin, expect }];
      const plugin = wanted.get(entry.plugin);
      if (plugin === undefined) throw new Error(`plan entry for ${entry.plugin} without a resolved declaration`);
      const receipt = receiptFor(plugin, context);
      if (entry.action === 'adopt') {
        const { digest, lists } = plugin;
        return [{ kind: 'adopt-tree', plugin: entry.plugin, expect, digest, lists, receipt }];
      }
      return [{ kind: 'put-tree', plugin: entry.plugin, expect, digest: plugin.digest, receipt }];
    }),
  };
}

function expectationOf(found: ObservedPlugin | undefined): Expectation {
  if (found?.present !== true) return { kind: 'absent' };
  return found.filesSha256 === undefined ? { kind: 'unmanaged' } : { kind: 'sha256', sha256: found.filesSha256 };
}

function receiptFor(plugin: ResolvedPlugin, context: TransactionContext): Receipt {
  return {
    format: 1,
    plugin: plugin.name,
    workspace: context.workspace,
    authority: context.authority,
    source: plugin.source,
    revision: plugin.revision,
    digest: plugin.digest,
  };
}
