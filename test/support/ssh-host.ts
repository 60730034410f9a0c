import { appendFile } from 'node:fs/promises';

import { PooledSshHosts } from '../../src/adapters/ssh/pooled-ssh-hosts.ts';
import { SshTargetProvider } from '../../src/adapters/ssh/ssh-target-provider.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import type { AllowedHosts } from '../../src/domain/access.ts';
import { BUILT_IN_PROFILES, type RuntimeProfile } from '../../src/domain/profile.ts';
import type { Workspace } from '../../src/domain/workspace.ts';
import type { ControllerState } from '../../src/ports/controller-state.ts';
import type { WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import { FaultProxy } from './fault-proxy.ts';
import { SshMachine, type SshMachineOptions } from './machine/ssh-machine.ts';
import { MemoryControllerState } from './memory-state.ts';
import { workspaceAt } from './workspaces.ts';

export interface SshHostOptions {
  readonly machine?: SshMachineOptions;
  readonly allowed?: Partial<AllowedHosts>;
  readonly profiles?: readonly RuntimeProfile[];
  readonly state?: ControllerState;
  /** Of the config directory; default {@link AGENT}. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** Of the line, each way. */
  readonly latencyMs?: number;
}

/** Owns the config directory where nobody says otherwise; is not the one who logs in. */
export const AGENT = { uid: 1500, gid: 1500 };
export const CONFIG_DIR = '/configs';

/** A machine with an empty config directory, and the provider that reaches it through a line that can be disturbed. */
export class SshHost {
  readonly machine: SshMachine;
  readonly line: FaultProxy;
  readonly provider: SshTargetProvider;
  readonly workspace: Workspace;
  readonly owner: { readonly uid: number; readonly gid: number };
  readonly #hosts: PooledSshHosts[] = [];
  readonly #options: SshHostOptions;

  private constructor(machine: SshMachine, line: FaultProxy, options: SshHostOptions) {
    this.machine = machine;
    this.line = line;
    this.owner = options.owner ?? AGENT;
    this.#options = options;
    this.provider = this.#providerWith(options.allowed ?? {});
    this.workspace = workspaceAt({ ssh: { host: '127.0.0.1', port: this.port } });
  }

  static async boot(options: SshHostOptions = {}): Promise<SshHost> {
    const users = [
      { name: 'ubuntu', uid: 1000 },
      { name: 'agent', uid: AGENT.uid, sudo: false },
    ];
    const machine = await SshMachine.boot({ users, ...options.machine });
    const line = await FaultProxy.open(`tcp://127.0.0.1:${machine.port}`, 'tcp');
    const host = new SshHost(machine, line, options);
    for (const { line: key } of machine.hostKeys)
      await appendFile(machine.knownHostsFile, `[127.0.0.1]:${host.port} ${key}\n`);
    await machine.machine.shell(`mkdir ${CONFIG_DIR} && chown ${host.owner.uid}:${host.owner.gid} ${CONFIG_DIR}`);
    if (options.latencyMs !== undefined) line.delay(options.latencyMs, 'both');
    return host;
  }

  /** Of the line that leads to it. */
  get port(): number {
    return Number(new URL(this.line.address).port);
  }

  /** Another provider, for what the operator says otherwise. */
  with(allowed: Partial<AllowedHosts>): { locate(): Promise<WorkspaceTarget> } {
    const provider = this.#providerWith(allowed);
    return { locate: () => provider.locate(this.workspace, new AbortController().signal) };
  }

  #providerWith(changes: Partial<AllowedHosts>): SshTargetProvider {
    const { state = new MemoryControllerState(), profiles = BUILT_IN_PROFILES } = this.#options;
    const hosts = new PooledSshHosts({ state: () => state, clock: new SystemClock() });
    this.#hosts.push(hosts);
    const allowed: AllowedHosts = {
      hosts: ['127.0.0.1'],
      user: 'ubuntu',
      keyFile: this.machine.clientKeyFile,
      knownHostsFile: this.machine.knownHostsFile,
      firstContact: 'strict',
      ...changes,
    };
    return new SshTargetProvider({ allowed: [allowed], profiles, hosts });
  }

  locate(signal = new AbortController().signal): Promise<WorkspaceTarget> {
    return this.provider.locate(this.workspace, signal);
  }

  async close(): Promise<void> {
    await this.provider.close();
    for (const hosts of this.#hosts) await hosts.close();
    await this.line.close();
    await this.machine.close();
  }
}
