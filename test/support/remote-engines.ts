import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { engineDialer } from '../../src/adapters/ssh/engine-dialer.ts';
import { PooledSshHosts } from '../../src/adapters/ssh/pooled-ssh-hosts.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import type { AllowedHosts } from '../../src/domain/access.ts';
import type { StreamDialer } from '../../src/ports/stream-dialer.ts';
import { FaultProxy } from './fault-proxy.ts';
import { MemoryControllerState } from './memory-state.ts';
import { sshdAt } from './sshd.ts';

/** Reaches engines of this machine as if they were on another: by SSH, through a line that can be disturbed. */
export class RemoteEngines {
  readonly line: FaultProxy;
  /** The entry of the configuration that they are logged in by. */
  readonly entry: AllowedHosts;
  readonly #hosts: PooledSshHosts;
  readonly #dir: string;

  private constructor(line: FaultProxy, entry: AllowedHosts, dir: string) {
    this.line = line;
    this.entry = entry;
    this.#dir = dir;
    const state = new MemoryControllerState();
    this.#hosts = new PooledSshHosts({ state: () => state, clock: new SystemClock() });
  }

  /** `sshd`: address of the back end of that name. */
  static async open(sshd: string): Promise<RemoteEngines> {
    const { port, knownHostsFile, clientKeyFile } = await sshdAt(sshd);
    const line = await FaultProxy.open(`tcp://127.0.0.1:${port}`, 'tcp');
    const dir = await mkdtemp(join(tmpdir(), 'plugset-remote-'));
    const known = await readFile(knownHostsFile, 'utf8');
    const key = known.split(' ').slice(1).join(' ');
    await writeFile(join(dir, 'known_hosts'), `[127.0.0.1]:${new URL(line.address).port} ${key}`);
    await copyFile(clientKeyFile, join(dir, 'key'));
    const entry: AllowedHosts = {
      hosts: ['127.0.0.1'],
      user: 'root',
      keyFile: join(dir, 'key'),
      knownHostsFile: join(dir, 'known_hosts'),
      firstContact: 'strict',
    };
    return new RemoteEngines(line, entry, dir);
  }

  /** What reaches the engine at `unix:///path`; `changes`: what the operator says otherwise. */
  reach(
    unix: string,
    changes: Partial<AllowedHosts> = {},
  ): { readonly address: string; readonly dialer: StreamDialer | undefined } {
    const address = `ssh://${new URL(this.line.address).host}${unix.slice('unix://'.length)}`;
    return { address, dialer: engineDialer(address, [{ ...this.entry, ...changes }], this.#hosts) };
  }

  async close(): Promise<void> {
    await this.#hosts.close();
    await this.line.close();
    await rm(this.#dir, { recursive: true, force: true });
  }
}
