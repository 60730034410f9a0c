import { randomBytes } from 'node:crypto';

import type Docker from 'dockerode';

import { connectDocker, ignoreGone, TEST_LABEL } from './docker-client.ts';
import { ensureImage, type TestImage } from './docker-images.ts';

export interface TestContainerOptions {
  readonly image?: TestImage;
  /** Default: a random one. */
  readonly name?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** `false`: created only. */
  readonly start?: boolean;
  readonly host?: Docker.HostConfig;
  readonly env?: readonly string[];
}

/** Runs until it is told to stop, and collects orphans, so that a killed process is soon gone. */
const MAIN = ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done'];

/** The containers of one test file. */
export class TestContainers {
  readonly docker: Docker;
  readonly #made: Docker.Container[] = [];

  constructor(address: string) {
    this.docker = connectDocker(address);
  }

  async create(options: TestContainerOptions = {}): Promise<Docker.Container> {
    const image = await ensureImage(this.docker, options.image ?? 'busybox');
    const container = await this.docker.createContainer({
      Image: image,
      name: options.name ?? `plugset-test-${randomBytes(6).toString('hex')}`,
      Cmd: MAIN,
      Labels: { ...options.labels, [TEST_LABEL]: 'container' },
      Env: [...(options.env ?? [])],
      HostConfig: { NetworkMode: 'none', ...options.host },
    });
    this.#made.push(container);
    if (options.start !== false) await container.start();
    return container;
  }

  /** Output of a command run as root; throws when it fails. */
  async exec(container: Docker.Container, argv: readonly string[], user = '0:0'): Promise<string> {
    const exec = await container.exec({ Cmd: [...argv], User: user, AttachStdout: true, AttachStderr: true });
    const stream = await exec.start({ hijack: true, stdin: false });
    const chunks: Buffer[] = [];
    const collect = { write: (chunk: Buffer) => chunks.push(chunk) };
    this.docker.modem.demuxStream(stream, collect as never, collect as never);
    await new Promise((resolve) => stream.once('end', resolve));
    const output = Buffer.concat(chunks).toString();
    for (;;) {
      const { Running, ExitCode } = await exec.inspect();
      if (Running) continue;
      if (ExitCode !== 0) throw new Error(`${argv.join(' ')} ended with ${ExitCode}: ${output}`);
      return output;
    }
  }

  async removeAll(): Promise<void> {
    await Promise.all(this.#made.splice(0).map((container) => ignoreGone(container.remove({ force: true, v: true }))));
  }
}
