import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Clock } from '../../ports/clock.ts';
import type { ScratchSpace } from '../../ports/scratch-space.ts';
import type { GitEndpoint } from './address.ts';
import { copyKey } from './credentials.ts';

export interface SshOptions {
  /** Host keys that are believed; a host that is not in it is refused. */
  readonly knownHostsFile: string;
  /** Private key by host name; `*` is for every host without one of its own. */
  readonly identityFiles: Readonly<Record<string, string>>;
}

export interface SandboxOptions {
  readonly clock: Clock;
  readonly scratch: ScratchSpace;
  /** PATH of the children: where git and ssh are found. */
  readonly path: string;
  /** Files in git's credential-store format. A line is offered to its own protocol, host and port and to no other. */
  readonly credentialFiles: readonly string[];
  readonly ssh?: SshOptions | undefined;
  /** Certificates (PEM) that are trusted for https besides those of the system. */
  readonly caFile?: string | undefined;
  /** Bytes that git may write to disk for one repository. */
  readonly maxRepositoryBytes: number;
  /** Address space of one git process. */
  readonly maxMemoryBytes: number;
}

export interface SandboxTask {
  readonly url: string;
  readonly endpoint: GitEndpoint;
  /** The checked addresses of the host; git connects to these and does not look the name up again. */
  readonly addresses: readonly string[];
  /** For everything that runs in the sandbox together. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

/**
 * ssh's exit code is the only thing that tells a host that cannot be reached from a repository that is not there, and git
 * drops it. Constant; git appends its arguments.
 */
const SSH_COMMAND =
  'plugset_ssh() { ssh -F "$PLUGSET_SSH_CONFIG" "$@"; code=$?; echo "$code" >"$PLUGSET_SSH_EXIT"; return "$code"; }; plugset_ssh';

/** The whole environment of git and of what it starts. */
export function environment(options: SandboxOptions, task: SandboxTask, dir: string): Readonly<Record<string, string>> {
  return {
    PATH: options.path,
    HOME: join(dir, 'home'),
    LANG: 'C',
    LC_ALL: 'C',
    // Set even before it exists: git must not go looking for a repository in the directories above.
    GIT_DIR: join(dir, 'repository'),
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: join(dir, 'home', 'gitconfig'),
    GIT_ATTR_NOSYSTEM: '1',
    GIT_NO_REPLACE_OBJECTS: '1',
    GIT_TERMINAL_PROMPT: '0',
    GIT_ASKPASS: '',
    SSH_ASKPASS: '',
    GIT_ALLOW_PROTOCOL: task.endpoint.protocol,
    GIT_SSH_COMMAND: SSH_COMMAND,
    // Or git would run the command once more to find out whose ssh it is.
    GIT_SSH_VARIANT: 'ssh',
    PLUGSET_SSH_CONFIG: join(dir, 'home', 'ssh_config'),
    PLUGSET_SSH_EXIT: join(dir, 'ssh-exit'),
    // Status lines and protocol versions, which git has no exit codes for; see git-failure.ts.
    GIT_TRACE_CURL: join(dir, 'curl-trace'),
    GIT_TRACE_CURL_NO_DATA: '1',
    GIT_TRACE_REDACT: '1',
    GIT_TRACE2_EVENT: join(dir, 'git-trace'),
  };
}

/** `bundle`: file of the certificates that are trusted for https; left out: those of the system. */
export function gitConfig({ addresses, endpoint }: SandboxTask, bundle: string | undefined): string {
  const entries: [string, string][] = [
    ['core.hooksPath', '/dev/null'],
    ['core.fsmonitor', 'false'],
    ['core.askPass', ''],
    ['credential.helper', 'store'],
    ['gc.auto', '0'],
    ['maintenance.auto', 'false'],
    ['pack.threads', '1'],
    // One pack, whose size the kernel caps, and not many loose objects.
    ['transfer.unpackLimit', '1'],
    // git would take the credential helper along to wherever it is sent; redirects are looked at in git-source.ts.
    ['http.followRedirects', 'false'],
    ['http.sslVerify', 'true'],
    ['http.lowSpeedLimit', '1'],
    ['http.lowSpeedTime', '20'],
  ];
  if (endpoint.protocol === 'file') entries.push(['safe.directory', endpoint.path]);
  else if (endpoint.protocol !== 'ssh') {
    const bracketed = addresses.map((address) => (address.includes(':') ? `[${address}]` : address));
    entries.push(['http.curloptResolve', `${endpoint.host}:${endpoint.port}:${bracketed.join(',')}`]);
  }
  if (bundle !== undefined) entries.push(['http.sslCAInfo', bundle]);
  return entries.map(([key, value]) => configLine(key, value)).join('');
}

function configLine(key: string, value: string): string {
  const [section, name] = key.split('.') as [string, string];
  const quoted = value
    .replaceAll('\\', '\\\\')
    .replaceAll('"', String.raw`\"`)
    .replaceAll('\n', String.raw`\n`);
  return `[${section}]\n\t${name} = "${quoted}"\n`;
}

/** Writes what ssh is told instead of the configuration of whoever runs this process. */
export async function prepareSsh(ssh: SshOptions | undefined, task: SandboxTask, dir: string): Promise<void> {
  const { addresses, endpoint } = task;
  if (endpoint.protocol !== 'ssh') return;
  const identity = identityFor(ssh, endpoint.host);
  const key = join(dir, 'home', 'identity');
  if (identity !== undefined) await copyKey(identity, key);
  const host = endpoint.host.replaceAll(/^\[|\]$/g, '');
  const lines: [string, string][] = [
    ['BatchMode', 'yes'],
    ['StrictHostKeyChecking', 'yes'],
    ['UserKnownHostsFile', ssh === undefined ? '/dev/null' : quote(ssh.knownHostsFile)],
    ['GlobalKnownHostsFile', '/dev/null'],
    ['UpdateHostKeys', 'no'],
    ['IdentityFile', identity === undefined ? 'none' : quote(key)],
    ['IdentitiesOnly', 'yes'],
    ['IdentityAgent', 'none'],
    ['PreferredAuthentications', 'publickey'],
    ['ConnectTimeout', '10'],
    ['ServerAliveInterval', '10'],
    ['ServerAliveCountMax', '2'],
    ['ControlMaster', 'no'],
    ['ClearAllForwardings', 'yes'],
    // Connects to the address that was checked, and believes the key that is on file for the name.
    ['HostName', addresses[0] ?? host],
    ['HostKeyAlias', endpoint.port === 22 ? host : `[${host}]:${endpoint.port}`],
  ];
  await writeFile(join(dir, 'home', 'ssh_config'), lines.map((line) => `${line.join(' ')}\n`).join(''), {
    mode: 0o600,
  });
}

function quote(path: string): string {
  return `"${path.replaceAll('%', '%%')}"`;
}

export function identityFor(ssh: SshOptions | undefined, host: string): string | undefined {
  return ssh?.identityFiles[host] ?? ssh?.identityFiles['*'];
}
