import { randomBytes } from 'node:crypto';
import { chmod, copyFile, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

import { FaultProxy } from '../fault-proxy.ts';
import { SshMachine, type MachineUser } from '../machine/ssh-machine.ts';
import { consoleOutput } from './console-output.ts';

export type InstanceState = 'pending' | 'running' | 'stopping' | 'stopped' | 'shutting-down' | 'terminated';

export interface LaunchOptions {
  readonly tags?: Readonly<Record<string, string>>;
  readonly vpcId?: string;
  readonly subnetId?: string;
  /** Default: one that nobody has had yet. */
  readonly privateIp?: string;
  readonly ipv6?: string;
  /** Default: `ubuntu`, uid 1000, who may sudo. */
  readonly users?: readonly MachineUser[];
  /** Lines of sshd_config that go before all others, and so win: `RekeyLimit 8M`. */
  readonly sshdConfig?: readonly string[];
  readonly diskSize?: string;
  /** Directories to make, each with the uid that it belongs to: `{'/configs': 0}`. */
  readonly directories?: Readonly<Record<string, number>>;
}

const AUTHORIZED_KEYS = fileURLToPath(new URL('authorized-keys.sh', import.meta.url));
/** Not below /tmp: sshd takes no command from where others may write, though it looks at the command alone. */
const COMMAND = '/usr/share/ec2-instance-connect/eic_run_authorized_keys';
const KEYS = '/run/ec2-instance-connect';

const SSHD_CONFIG = [
  'AuthorizedKeysFile none',
  `AuthorizedKeysCommand ${COMMAND} %u %f`,
  'AuthorizedKeysCommandUser nobody',
];

/** An EC2 instance: a machine whose sshd lets in only keys that Instance Connect has pushed a moment ago. */
export class FakeInstance {
  readonly id = `i-0${randomBytes(8).toString('hex')}`;
  readonly launchedAt: Date;
  readonly options: LaunchOptions;
  readonly vpcId: string;
  readonly subnetId: string;
  readonly privateIp: string;
  readonly ssh: SshMachine;
  /** Every tunnel to it goes through here: to delay, cut or swallow. */
  readonly line: FaultProxy;
  state: InstanceState = 'running';
  tags: Readonly<Record<string, string>>;
  /** What GetConsoleOutput tells: empty until it is posted, some minutes after the boot. */
  consoleOutput: string;
  /** Older kinds of instances refuse `Latest`. */
  isNitro = true;
  /** So many pushed keys are accepted and never get to it, as with a broken agent. */
  keysToLose = 0;
  /** How far its clock is ahead of the one of AWS: a minute, and every pushed key comes too late. */
  clockAheadMs = 0;
  #pushed = 0;

  private constructor(
    options: LaunchOptions,
    privateIp: string,
    launchedAtMs: number,
    ssh: SshMachine,
    line: FaultProxy,
  ) {
    this.options = options;
    this.tags = options.tags ?? {};
    this.vpcId = options.vpcId ?? 'vpc-1';
    this.subnetId = options.subnetId ?? 'subnet-1';
    this.privateIp = privateIp;
    // The API tells whole seconds.
    this.launchedAt = new Date(Math.floor(launchedAtMs / 1000) * 1000);
    this.ssh = ssh;
    this.line = line;
    this.consoleOutput = consoleOutput(hostnameOf(privateIp), ssh.hostKeys);
  }

  static async launch(options: LaunchOptions, privateIp: string, launchedAtMs: number): Promise<FakeInstance> {
    const { users, diskSize, sshdConfig = [], directories = {} } = options;
    const ssh = await SshMachine.boot({
      hostname: hostnameOf(privateIp),
      sshdConfig: [...sshdConfig, ...SSHD_CONFIG],
      ...(users === undefined ? {} : { users }),
      ...(diskSize === undefined ? {} : { diskSize }),
    });
    const { root } = ssh.machine;
    await mkdir(`${root}${dirname(COMMAND)}`, { recursive: true });
    await copyFile(AUTHORIZED_KEYS, `${root}${COMMAND}`);
    await chmod(`${root}${COMMAND}`, 0o755);
    for (const [path, uid] of Object.entries(directories)) {
      await ssh.machine.exec(['install', '-d', '-o', `${uid}`, '-g', `${uid}`, path]);
    }
    const line = await FaultProxy.open(`tcp://${ssh.host}:${ssh.port}`, 'tcp');
    return new FakeInstance(options, privateIp, launchedAtMs, ssh, line);
  }

  /** Its disk, from outside. */
  get root(): string {
    return this.ssh.machine.root;
  }

  get isRunning(): boolean {
    return this.state === 'running';
  }

  async acceptKey(user: string, key: string, expiresAtMs: number): Promise<void> {
    if (this.keysToLose > 0) {
      this.keysToLose -= 1;
      return;
    }
    const dir = `${this.root}${KEYS}/${user}`;
    await mkdir(dir, { recursive: true });
    this.#pushed += 1;
    await writeFile(`${dir}/${this.#pushed}`, `${Math.floor(expiresAtMs - this.clockAheadMs)} ${key.trim()}\n`);
  }

  /** As if the minute of every key that was pushed were over. */
  async expireKeys(): Promise<void> {
    for (const user of await readdir(`${this.root}${KEYS}`))
      await rm(`${this.root}${KEYS}/${user}`, { recursive: true });
  }

  async stop(): Promise<void> {
    this.state = 'stopped';
    await this.ssh.halt();
    this.line.cut();
  }

  async start(): Promise<void> {
    await this.ssh.startSshd();
    this.state = 'running';
  }

  async terminate(): Promise<void> {
    this.state = 'terminated';
    await this.ssh.close();
    await this.line.close();
  }
}

function hostnameOf(privateIp: string): string {
  return `ip-${privateIp.replaceAll('.', '-')}`;
}
