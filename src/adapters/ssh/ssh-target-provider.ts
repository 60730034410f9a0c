import { isFor, type AllowedHosts } from '../../domain/access.ts';
import { terminal } from '../../domain/errors.ts';
import { findProfile, type RuntimeProfile } from '../../domain/profile.ts';
import type { Workspace } from '../../domain/workspace.ts';
import type { SshEndpoint, SshHosts } from '../../ports/ssh-endpoint.ts';
import type { TargetProvider, WorkspaceTarget } from '../../ports/workspace-target.ts';
import { endpointOf, SSH_PORT } from './endpoint-of.ts';
import { hostName, isMatch } from './known-hosts.ts';

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
  readonly #options: SshTargetOptions;

  constructor(options: SshTargetOptions) {
    this.#options = options;
  }

  addresses(workspace: Workspace): readonly string[] {
    const { host, port } = this.#declared(workspace);
    return [`ssh:${hostName(host, port)}`];
  }

  lane(workspace: Workspace): string {
    return this.addresses(workspace)[0] ?? 'ssh';
  }

  async locate(workspace: Workspace, signal: AbortSignal): Promise<WorkspaceTarget> {
    const { profiles, hosts } = this.#options;
    const activation = findProfile(profiles, workspace.runtime)?.activation;
    return hosts.locate(this.#endpointOf(workspace), activation, signal);
  }

  /** Connections are the concern of {@link SshHosts}, which others may be using too. */
  async close(): Promise<void> {}

  #endpointOf(workspace: Workspace): SshEndpoint {
    const allowed = this.#allowedFor(workspace);
    return endpointOf({ ...this.#declared(workspace), user: this.#userOf(workspace, allowed) }, allowed);
  }

  /** Where the workspace says that it is. Pure; whether it may say so is for {@link #allowedFor}. */
  #declared(workspace: Workspace): { readonly host: string; readonly port: number } {
    const { host, port } = targetOf(workspace);
    return { host, port: port ?? this.#find(workspace)?.port ?? SSH_PORT };
  }

  #find(workspace: Workspace): AllowedHosts | undefined {
    const { host } = targetOf(workspace);
    return this.#options.allowed.find(
      (entry) => isFor(workspace.key, entry) && entry.hosts.some((pattern) => isMatch(host, pattern)),
    );
  }

  #allowedFor(workspace: Workspace): AllowedHosts {
    const { host, port } = targetOf(workspace);
    const found = this.#find(workspace);
    if (found === undefined)
      throw terminal(
        'TargetNotAllowed',
        `workspace ${workspace.key} names the host ${host}, which the operator has not allowed for it (targets.ssh)`,
      );
    if (found.port === undefined || port === undefined || port === found.port) return found;
    throw terminal(
      'TargetNotAllowed',
      `workspace ${workspace.key} names port ${port} of ${host}; the operator has allowed ${found.port} (targets.ssh)`,
    );
  }

  #userOf(workspace: Workspace, allowed: AllowedHosts): string {
    const { host, user } = targetOf(workspace);
    if (allowed.user !== undefined && user !== undefined && user !== allowed.user)
      throw terminal(
        'TargetNotAllowed',
        `workspace ${workspace.key} names the user ${user} of ${host}; the operator has allowed ${allowed.user} (targets.ssh)`,
      );
    const who = allowed.user ?? user;
    if (who !== undefined) return who;
    throw terminal('InvalidSpec', `workspace ${workspace.key} names no user of ${host}, and neither does targets.ssh`);
  }
}

function targetOf(workspace: Workspace): {
  readonly host: string;
  readonly port?: number | undefined;
  readonly user?: string | undefined;
} {
  if ('ssh' in workspace.target) return workspace.target.ssh;
  throw terminal('Internal', `workspace ${workspace.key} has no ssh target and reached the ssh provider`);
}
