import type { AllowedHosts } from '../../domain/access.ts';
import { allowedPlace, portOf, type DeclaredHost } from '../../domain/allowed-host.ts';
import { terminal } from '../../domain/errors.ts';
import { findProfile, type RuntimeProfile } from '../../domain/profile.ts';
import type { Workspace } from '../../domain/workspace.ts';
import type { SshHosts } from '../../ports/ssh-endpoint.ts';
import type { TargetProvider, WorkspaceTarget } from '../../ports/workspace-target.ts';
import { endpointOf } from './endpoint-of.ts';
import { hostName } from './known-hosts.ts';

export interface SshTargetOptions {
  /** Hosts that workspaces may name; the first entry that has the host counts. */
  readonly allowed: readonly AllowedHosts[];
  /** Their activation is how runtimes are restarted. */
  readonly profiles: readonly RuntimeProfile[];
  readonly hosts: SshHosts;
}

/** Workspaces that are hosts with an SSH server. */
export class SshTargetProvider implements TargetProvider {
  readonly kind = 'ssh';
  readonly slowLane = 'ssh:slow';
  readonly #options: SshTargetOptions;

  constructor(options: SshTargetOptions) {
    this.#options = options;
  }

  addresses(workspace: Workspace): readonly string[] {
    const declared = targetOf(workspace);
    return [`ssh:${hostName(declared.host, portOf(workspace.key, declared, this.#options.allowed))}`];
  }

  lane(workspace: Workspace): string {
    return this.addresses(workspace)[0] ?? 'ssh';
  }

  async locate(workspace: Workspace, signal: AbortSignal): Promise<WorkspaceTarget> {
    const { profiles, hosts, allowed: entries } = this.#options;
    const { place, allowed } = allowedPlace(workspace.key, targetOf(workspace), entries);
    const activation = findProfile(profiles, workspace.runtime)?.activation;
    return hosts.locate(endpointOf(place, allowed), activation, signal);
  }

  /** Connections are the concern of {@link SshHosts}, which others may be using too. */
  async close(): Promise<void> {}
}

function targetOf(workspace: Workspace): DeclaredHost {
  if ('ssh' in workspace.target) return workspace.target.ssh;
  throw terminal('Internal', `workspace ${workspace.key} has no ssh target and reached the ssh provider`);
}
