import type { WorkspaceKey } from '../domain/name.ts';
import type { SecretReference } from '../domain/plugin-settings.ts';

export interface Secret {
  readonly value: string;
  readonly version: string;
}

/**
 * Values for references in the settings of plugins. Throws `ConfigNotDelivered`: `terminal` for a reference that this workspace
 * may not use, `waiting` for one that leads to nothing; and what the place throws that it asks (`Unreachable`, `AccessDenied` …).
 * No message holds a value.
 */
export interface SecretResolver {
  /** Another one whenever the value may be another one. Tells nothing of it: it is part of what lies on the target. */
  version(reference: SecretReference, workspace: WorkspaceKey, signal: AbortSignal): Promise<string>;
  /** Called just before delivery; what comes of it is kept nowhere. */
  resolve(reference: SecretReference, workspace: WorkspaceKey, signal: AbortSignal): Promise<Secret>;
}
