import { readFile } from 'node:fs/promises';

import { isFor, type AllowedHosts } from '../../domain/access.ts';
import { terminal } from '../../domain/errors.ts';
import { findProfile, type RuntimeProfile } from '../../domain/profile.ts';
import type { Workspace } from '../../domain/workspace.ts';
import type { HostKeyPolicy, SshCredential, SshEndpoint, SshHosts } from '../../ports/ssh-endpoint.ts';
import type { TargetProvider, WorkspaceTarget } from '../../ports/workspace-target.ts';
import { hostName, isMatch, keysFor } from './known-hosts.ts';
import { TcpDialer } from './tcp-dialer.ts';

export interface SshTargetOptions {
  /** Hosts that workspaces may name; the first entry that has the host counts. */
  readonly allowed: readonly AllowedHosts[];
  /** Their activation is how runtimes are restarted. */
  readonly profiles: readonly RuntimeProfile[];
  readonly hosts: SshHosts;
}

const SSH_PORT = 22;

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
    const { host, port } = this.#declared(workspace);
    const user = this.#userOf(workspace, allowed);
    const name = hostName(host, port);
    return {
      id: `ssh:${user}@${name}`,
      description: `host ${user}@${name}`,
      user,
      dialer: new TcpDialer(host, port),
      credential: () => credentialOf(allowed),
      hostKeys: policyOf(name, allowed),
    };
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

/** Read anew for every connection, so that a key that was exchanged is taken up. */
async function credentialOf({ agent, keyFile }: AllowedHosts): Promise<SshCredential> {
  if (agent !== undefined) return { kind: 'agent', socket: agent };
  if (keyFile === undefined)
    throw terminal('AuthenticationFailed', 'targets.ssh names neither a keyFile nor an agent for the host');
  const privateKey = await readOperatorFile(keyFile);
  const { default: ssh2 } = await import('ssh2');
  const parsed = ssh2.utils.parseKey(privateKey);
  if (!(parsed instanceof Error)) return { kind: 'key', privateKey };
  const text = `${keyFile} holds no private key that can be used: it has a passphrase, or a format other than OpenSSH and PEM`;
  throw terminal('AuthenticationFailed', text, parsed);
}

function policyOf(name: string, { knownHostsFile, firstContact }: AllowedHosts): HostKeyPolicy {
  return {
    name,
    ask: 'always',
    vouchedFor: async () => (knownHostsFile === undefined ? [] : keysFor(name, await readOperatorFile(knownHostsFile))),
    firstContact,
  };
}

async function readOperatorFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    throw terminal('AuthenticationFailed', `${path} of targets.ssh cannot be read (${code})`, error);
  }
}
