import { terminal } from '../domain/errors.ts';
import { findProfile, type RuntimeProfile } from '../domain/profile.ts';
import { targetKind, type Workspace } from '../domain/workspace.ts';
import type { HostPlace } from '../ports/plugin-host.ts';
import type { TargetProvider } from '../ports/workspace-target.ts';

export function providerOf(workspace: Workspace, providers: readonly TargetProvider[]): TargetProvider | undefined {
  return providers.find((one) => one.kind === targetKind(workspace.target));
}

/** Throws `InvalidSpec` (terminal). */
export function providerAt(workspace: Workspace, providers: readonly TargetProvider[]): TargetProvider {
  const provider = providerOf(workspace, providers);
  if (provider !== undefined) return provider;
  throw terminal('InvalidSpec', `this plugset has no target of kind ${targetKind(workspace.target)}`);
}

/** The place where this workspace's plugins go. Throws what `locate` throws, and `UnknownRuntime`, `InvalidSpec` (terminal). */
export async function locatePlace(
  workspace: Workspace,
  providers: readonly TargetProvider[],
  profiles: readonly RuntimeProfile[],
  signal: AbortSignal,
): Promise<HostPlace> {
  const provider = providerAt(workspace, providers);
  const { profile, configDir } = profileOf(workspace, profiles);
  return { target: await provider.locate(workspace, signal), configDir, profile };
}

function profileOf(
  { runtime, target }: Workspace,
  profiles: readonly RuntimeProfile[],
): Pick<HostPlace, 'profile' | 'configDir'> {
  const profile = findProfile(profiles, runtime);
  if (profile === undefined) {
    const known = profiles.map((one) => one.runtime).join(', ');
    throw terminal('UnknownRuntime', `runtime ${runtime} has no profile; known: ${known}`);
  }
  const kind = targetKind(target);
  const configDir = profile.configDir[kind];
  if (configDir === undefined)
    throw terminal('InvalidSpec', `the profile of runtime ${runtime} has no config directory for ${kind} targets`);
  return { profile, configDir };
}
