import { classifyError, ReconcileError, terminal } from '../domain/errors.ts';
import type { PluginName, WorkspaceKey } from '../domain/name.ts';
import {
  checkSettings,
  declaredDigest,
  parseReference,
  settingsRevision,
  type DesiredSettings,
  type SecretReference,
} from '../domain/plugin-settings.ts';
import type { DeclaredPlugin } from '../domain/workspace.ts';
import type { Artifact } from '../ports/artifacts.ts';
import type { SecretResolver } from '../ports/secret-resolver.ts';

/** What a plugin is to have as settings. Asks where secrets lie whether they are other ones by now, and for none of them. */
export async function desiredSettings(
  { name, config = {} }: DeclaredPlugin,
  { configuration }: Artifact,
  workspace: WorkspaceKey,
  secrets: SecretResolver,
  signal: AbortSignal,
): Promise<DesiredSettings | undefined> {
  if (Object.keys(config).length === 0) return undefined;
  const checked = checkSettings(config, configuration);
  const declared = declaredDigest(checked.values);
  const versions = await Promise.all(
    checked.references.map((text) => lookUp(name, text, (reference) => secrets.version(reference, workspace, signal))),
  );
  signal.throwIfAborted();
  const error = versions.find((version) => version instanceof Error);
  if (error !== undefined) return { ...checked, declared, error };
  return { ...checked, declared, revision: settingsRevision(declared, versions as string[]) };
}

/** What went wrong with one reference is an answer like any other. */
export async function lookUp<T>(
  plugin: PluginName,
  text: string,
  look: (reference: SecretReference) => Promise<T>,
): Promise<T | ReconcileError> {
  const reference = parseReference(text);
  if (reference === undefined) return terminal('ConfigNotDelivered', `plugin ${plugin}: ${text} is no reference`);
  try {
    return await look(reference);
  } catch (thrown) {
    const { class: errorClass, message, retryAfterMs, cause } = classifyError(thrown);
    const why = `plugin ${plugin}: its settings refer to ${text}: ${message}`;
    return new ReconcileError(errorClass, 'ConfigNotDelivered', why, {
      cause,
      ...(retryAfterMs !== undefined && { retryAfterMs }),
    });
  }
}
