import { fork, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { presignTunnel } from '../../src/adapters/aws/presign-tunnel.ts';
import { FakeAws } from '../support/aws/fake-aws.ts';
import type { FakeInstance } from '../support/aws/fake-instance.ts';
import { workspaceAt } from '../support/workspaces.ts';
import { interleave, load, median, medianRatio, timed } from './measure.ts';
import { OpenSsh } from './openssh.ts';
import type { Row } from './table.ts';

const MEBIBYTES = 100;
const AT_LEAST = 0.9;
const ROUNDS = { warmUp: 1, measured: 5 };
const TUNNEL_CLIENT = fileURLToPath(new URL('tunnel-client.mjs', import.meta.url));
const PROXY_COMMAND = fileURLToPath(new URL('../support/aws/proxy-command.mjs', import.meta.url));

/**
 * Bytes to and from an instance through its Instance Connect endpoint, over connections that stand already, against OpenSSH
 * with a ProxyCommand that goes through the same stand-in, which is this process. For 100 MiB that are sent, plugset takes about
 * 0.7 s of processor in its one process; OpenSSH 0.2 s, and the ProxyCommand beside it 0.45 s, as little as one written without
 * streams; the stand-in 1.2 s. What is received, plugset keeps in memory to its end, and `ssh` drops.
 */
export async function benchTunnelRate(): Promise<readonly Row[]> {
  const bench = await Bench.open();
  try {
    const ours = await bench.plugset();
    const theirs = await bench.openSsh('plain', []);
    // What plugset asks for too; by itself, OpenSSH takes chacha20-poly1305.
    const sameCipher = await bench.openSsh('gcm', ['Ciphers aes128-gcm@openssh.com']);
    const send = (client: OpenSsh): Sides => ({
      ours: () => ours.send(bench.file),
      against: () => withFile(bench.file, 'r', (stdin) => client.run('cat >/dev/null', { stdin })),
    });
    const receive: Sides = {
      ours: () => ours.receive(),
      against: () => withFile('/dev/null', 'w', (stdout) => sameCipher.run('cat /sent', { stdout })),
    };
    return [
      await compared('sent', 'ssh -o ProxyCommand', send(theirs), AT_LEAST),
      await compared('sent', 'ssh -o ProxyCommand, aes128-gcm', send(sameCipher), AT_LEAST),
      await compared('received', 'ssh -o ProxyCommand, aes128-gcm', receive),
    ];
  } finally {
    await bench.close();
  }
}

interface Sides {
  readonly ours: () => Promise<void>;
  readonly against: () => Promise<void>;
}

async function compared(way: string, againstWhat: string, sides: Sides, atLeast?: number): Promise<Row> {
  const pairs = await interleave({ ours: () => timed(sides.ours), against: () => timed(sides.against) }, ROUNDS);
  const ratio = medianRatio(pairs.against, pairs.ours);
  const rate = (durations: readonly number[]): string => `${((MEBIBYTES * 1000) / median(durations)).toFixed(0)} MiB/s`;
  return {
    what: `through an EC2 Instance Connect tunnel: ${MEBIBYTES} MiB ${way}`,
    tier: '-',
    ours: rate(pairs.ours),
    against: `${rate(pairs.against)} ${againstWhat}`,
    figure: `${ratio.toFixed(2)} x its rate; ${load()}`,
    ...(atLeast === undefined ? {} : { wanted: { text: `>= ${atLeast} x`, isMet: ratio >= atLeast } }),
  };
}

async function withFile(path: string, flags: string, work: (descriptor: number) => Promise<void>): Promise<void> {
  const file = await open(path, flags);
  try {
    await work(file.fd);
  } finally {
    await file.close();
  }
}

/** One instance, with all who send to it. */
class Bench {
  readonly file: string;
  readonly #aws: FakeAws;
  readonly #instance: FakeInstance;
  readonly #dir: string;
  readonly #closers: (() => Promise<void>)[] = [];

  private constructor(aws: FakeAws, instance: FakeInstance, dir: string) {
    this.#aws = aws;
    this.#instance = instance;
    this.#dir = dir;
    this.file = join(dir, 'file');
  }

  static async open(): Promise<Bench> {
    const aws = await FakeAws.start();
    const instance = await aws.launch({ tags: { 'plugset.dev/workspace': 'team-a/alice' } });
    const bench = new Bench(aws, instance, await mkdtemp(join(tmpdir(), 'plugset-tunnel-')));
    const content = randomBytes(MEBIBYTES * 2 ** 20);
    for (const path of [bench.file, `${instance.root}/sent`]) await writeFile(path, content, { mode: 0o644 });
    return bench;
  }

  async plugset(): Promise<TunnelClient> {
    const client = new TunnelClient(this.#aws, join(this.#dir, 'state'));
    this.#closers.push(() => client.close());
    await client.run(['true']);
    return client;
  }

  /** As `aws ec2-instance-connect ssh` does it: pushes a key, and has ssh start what opens the tunnel. */
  async openSsh(name: string, settings: readonly string[]): Promise<OpenSsh> {
    const { clientKeyFile } = this.#instance.ssh;
    await this.#instance.acceptKey('ubuntu', await readFile(`${clientKeyFile}.pub`, 'utf8'), Date.now() + 60_000);
    // ssh hands the line to a shell, and takes `%` for itself.
    const url = (await this.#presigned()).replaceAll('%', '%%');
    const command = `env NODE_EXTRA_CA_CERTS=${this.#aws.caFile} ${process.execPath} ${PROXY_COMMAND} '${url}'`;
    const lines = [`ProxyCommand ${command}`, ...settings];
    const client = await OpenSsh.to(this.#instance.ssh, { name, settings: lines });
    this.#closers.push(() => client.close());
    return client;
  }

  async close(): Promise<void> {
    for (const close of this.#closers.toReversed()) await close();
    await this.#aws.close();
    await rm(this.#dir, { recursive: true, force: true, maxRetries: 3 });
  }

  async #presigned(): Promise<string> {
    const { region, credentials, endpoints } = this.#aws;
    const [endpoint] = endpoints;
    if (endpoint === undefined) throw new Error('there is no endpoint');
    const { id: endpointId, dnsName } = endpoint;
    const tunnel = { dnsName, endpointId, remotePort: 22, address: this.#instance.privateIp };
    return presignTunnel(tunnel, { region, credentials, date: new Date() });
  }
}

/** The `ec2` target in a process of its own. */
class TunnelClient {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown[]>;

  constructor(aws: FakeAws, stateDirectory: string) {
    const workspace = JSON.stringify(workspaceAt({ ec2: {} }));
    this.#child = fork(TUNNEL_CLIENT, [workspace, stateDirectory], {
      env: { PATH: process.env['PATH'], ...aws.environment },
      execArgv: [],
    });
    this.#exited = once(this.#child, 'exit');
  }

  async send(file: string): Promise<void> {
    await this.run(['sh', '-c', 'cat >/dev/null'], file);
  }

  async receive(): Promise<void> {
    const bytes = await this.run(['cat', '/sent']);
    if (bytes !== MEBIBYTES * 2 ** 20) throw new Error(`only ${bytes} bytes came`);
  }

  /** Answers how many bytes it printed. */
  async run(argv: readonly string[], stdin?: string): Promise<number> {
    this.#child.send({ argv, stdin });
    const [answer] = (await Promise.race([once(this.#child, 'message'), this.#exited])) as [unknown];
    const { bytes, failed } = Object(answer) as { readonly bytes?: number; readonly failed?: string };
    if (bytes === undefined)
      throw new Error(failed ?? 'the client of the tunnel has ended; is dist/ there (npm run build)?');
    return bytes;
  }

  async close(): Promise<void> {
    if (this.#child.connected) this.#child.disconnect();
    await this.#exited;
  }
}
