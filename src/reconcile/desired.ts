import { shortDigest, type Digest } from '../domain/digest.ts';
import { classifyError, terminal, type ReconcileError } from '../domain/errors.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { DesiredPlugin } from '../domain/plan.ts';
import { withoutCredentials } from '../domain/source.ts';
import type { DeclaredPlugin, Workspace } from '../domain/workspace.ts';
import type { Artifact, Artifacts } from '../ports/artifacts.ts';
import type { ParsedSource } from '../ports/plugin-source.ts';
import type { SecretResolver } from '../ports/secret-resolver.ts';
import type { Errands } from './errands.ts';
import { desiredSettings } from './desired-settings.ts';
import type { Resolution, Revisions } from './revisions.ts';
import type { SourceRegistry } from './source-registry.ts';

export interface DesiredPorts {
  readonly registry: SourceRegistry;
  readonly revisions: Revisions;
  readonly artifacts: Artifacts;
  /** A question to a source together with the fetch of what it answered. */
  readonly errands: Errands<Fetched>;
  readonly secrets: SecretResolver;
}

/** What a source stands for now, and the tree of it. */
export interface Fetched {
  readonly resolution: Resolution;
  readonly artifact: Artifact;
}

/** The declared set with every source answered, and the trees behind the answers. */
export interface DesiredSet {
  readonly plugins: readonly DesiredPlugin[];
  readonly artifacts: ReadonlyMap<Digest, Artifact>;
}

type Parsed = { readonly declared: DeclaredPlugin; readonly source: ParsedSource | ReconcileError };

/**
 * Resolves every declared plugin by itself: one bad source never stops the others. Throws only when `signal` aborts.
 * `fresh` asks sources again whose last answer is recent.
 */
export async function resolveDesired(
  workspace: Workspace,
  ports: DesiredPorts,
  fresh: boolean,
  signal: AbortSignal,
): Promise<DesiredSet> {
  const parsed = (workspace.deleting ? [] : workspace.plugins).map((declared): Parsed => {
    try {
      return { declared, source: ports.registry.parse(declared.source, workspace.key) };
    } catch (error) {
      return { declared, source: classifyError(error) };
    }
  });
  ports.revisions.follow(
    workspace.key,
    parsed.flatMap(({ source }) => (source instanceof Error ? [] : [source])),
  );
  const artifacts = new Map<Digest, Artifact>();
  const plugins = await Promise.all(
    parsed.map(async ({ declared, source }): Promise<DesiredPlugin> => {
      try {
        if (source instanceof Error) throw source;
        const { resolution, artifact } = await obtain(workspace.key, source, ports, fresh, signal);
        const { revision, stale } = resolution;
        checkPin(declared, artifact);
        artifacts.set(artifact.digest, artifact);
        const { name, origin } = declared;
        const { digest, lists, manifest } = artifact;
        const settings = await desiredSettings(declared, artifact, workspace.key, ports.secrets, signal);
        const what = { revision, digest, lists, manifest, stale, settings };
        return { kind: 'resolved', name, source: source.ref.text, origin, ...what };
      } catch (error) {
        signal.throwIfAborted();
        const { name, origin } = declared;
        // As it is where it was understood: no grammar takes a credential, and the receipt of the tree that stands has this text.
        const text = source instanceof Error ? withoutCredentials(declared.source) : source.ref.text;
        return { kind: 'unresolved', name, source: text, origin, error: classifyError(error) };
      }
    }),
  );
  return { plugins, artifacts };
}

async function obtain(
  key: WorkspaceKey,
  source: ParsedSource,
  ports: DesiredPorts,
  fresh: boolean,
  signal: AbortSignal,
): Promise<Fetched> {
  const work = async (until: AbortSignal): Promise<Fetched> => {
    const resolution = await ports.revisions.resolve(source, fresh, until);
    return { resolution, artifact: await ports.artifacts.get(source, resolution.revision, until) };
  };
  // An errand has timers and signals of its own: not for what is known, ten times in every pass over a fleet.
  const known = ports.revisions.known(source, fresh);
  const artifact = known && ports.artifacts.peek?.(source, known.revision);
  if (known !== undefined && artifact !== undefined) return { resolution: known, artifact };
  const { group, selector, ref } = source;
  return ports.errands.run({ id: `${group} ${selector} ${fresh}`, what: ref.text, key }, work, signal);
}

function checkPin(declared: DeclaredPlugin, artifact: Artifact): void {
  if (declared.digest === undefined || declared.digest === artifact.digest) return;
  throw terminal(
    'DigestMismatch',
    `plugin ${declared.name}: ${declared.source} holds ${artifact.digest}, the declaration (${declared.origin}) pins ${shortDigest(declared.digest)}…; review the content, then change the pin`,
  );
}
