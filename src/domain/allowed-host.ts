import { isFor, type AllowedHosts } from './access.ts';
import { terminal } from './errors.ts';
import type { WorkspaceKey } from './name.ts';

export const SSH_PORT = 22;

export interface HostPlace {
  readonly host: string;
  readonly port: number;
  readonly user: string;
}

export interface DeclaredHost {
  readonly host: string;
  readonly port?: number | undefined;
  readonly user?: string | undefined;
}

interface AllowedPlace {
  readonly place: HostPlace;
  /** The entry that has the host. */
  readonly allowed: AllowedHosts;
}

/** The port of the host that a workspace names; whether it may name it is for {@link allowedPlace}. */
export function portOf(key: WorkspaceKey, declared: DeclaredHost, entries: readonly AllowedHosts[]): number {
  return declared.port ?? find(key, declared, entries)?.port ?? SSH_PORT;
}

/**
 * Where a workspace is that names a host, and how it is logged in to. Pure. Throws `TargetNotAllowed`, `InvalidSpec`
 * (terminal).
 */
export function allowedPlace(
  key: WorkspaceKey,
  declared: DeclaredHost,
  entries: readonly AllowedHosts[],
): AllowedPlace {
  const { host, port, user } = declared;
  const allowed = find(key, declared, entries);
  if (allowed === undefined)
    throw terminal(
      'TargetNotAllowed',
      `workspace ${key} names the host ${host}, which the operator has not allowed for it (targets.ssh)`,
    );
  if (allowed.port !== undefined && port !== undefined && port !== allowed.port)
    throw terminal(
      'TargetNotAllowed',
      `workspace ${key} names port ${port} of ${host}; the operator has allowed ${allowed.port} (targets.ssh)`,
    );
  if (allowed.user !== undefined && user !== undefined && user !== allowed.user)
    throw terminal(
      'TargetNotAllowed',
      `workspace ${key} names the user ${user} of ${host}; the operator has allowed ${allowed.user} (targets.ssh)`,
    );
  const who = allowed.user ?? user;
  if (who === undefined)
    throw terminal('InvalidSpec', `workspace ${key} names no user of ${host}, and neither does targets.ssh`);
  return { allowed, place: { host, port: portOf(key, declared, entries), user: who } };
}

function find(key: WorkspaceKey, { host }: DeclaredHost, entries: readonly AllowedHosts[]): AllowedHosts | undefined {
  return entries.find((entry) => isFor(key, entry) && entry.hosts.some((pattern) => isMatch(host, pattern)));
}

/** Whether a name matches a pattern with `*` and `?`, the whole of it and whatever the case. */
export function isMatch(name: string, pattern: string): boolean {
  const expression = pattern.replaceAll(/[^A-Za-z0-9]/g, (character) => {
    if (character === '*') return '.*';
    return character === '?' ? '.' : `\\${character}`;
  });
  return new RegExp(`^${expression}$`, 'i').test(name);
}
