import { randomBytes } from 'node:crypto';

import type Docker from 'dockerode';

import { connectDocker, ignoreGone, TEST_LABEL } from './docker-client.ts';
import { eventually } from './eventually.ts';
import { ensureImage, type TestImage } from './docker-images.ts';
import { ensurePythonImage } from './python-image.ts';

export interface TestContainerOptions {
  /** `python`: see {@link ensurePythonImage}, which takes a minute once. */
  readonly image?: TestImage | 'python';
  /** Default: a random one. */
  readonly name?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** `false`: created only. */
  readonly start?: boolean;
  readonly host?: Docker.HostConfig;
  readonly env?: readonly string[];
  /** Default: it runs until it is told to stop. */
  readonly command?: readonly string[];
}

/** Runs until it is told to stop, and collects orphans, so that a killed process is soon gone. */
const MAIN = ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done'];

export interface TestExecOptions {
  /** Default: root. */
  readonly user?: string;
  readonly directory?: string;
}

/** The containers of one test file. */
export class TestContainers {
  readonly docker: Docker;
  readonly #made: Docker.Container[] = [];

  constructor(address: string) {
    this.docker = connectDocker(address);
  }

  async create(options: TestContainerOptions = {}): Promise<Docker.Container> {
    const image = await (options.image === 'python'
      ? ensurePythonImage(this.docker)
      : ensureImage(this.docker, options.image ?? 'busybox'));
    const container = await this.docker.createContainer({
      Image: image,
      name: options.name ?? `plugset-test-${randomBytes(6).toString('hex')}`,
      Cmd: [...(options.command ?? MAIN)],
      Labels: { ...options.labels, [TEST_LABEL]: 'container' },
      Env: [...(options.env ?? [])],
      HostConfig: { NetworkMode: 'none', ...options.host },
    });
    this.#made.push(container);
    if (options.start !== false) await container.start();
    return container;
  }

  /** Removes it with the others. */
  adopt(container: Docker.Container): void {
    this.#made.push(container);
  }

  /** What a command printed to stdout; throws when it fails. */
  async exec(container: Docker.Container, argv: readonly string[], options: TestExecOptions = {}): Promise<string> {
    const exec = await container.exec({
      Cmd: [...argv],
      User: options.user ?? '0:0',
      WorkingDir: options.directory ?? '/',
      AttachStdout: true,
      AttachStderr: true,
    });
    const stream = await exec.start({ hijack: true, stdin: false });
    const [stdout, stderr] = [new Text(), new Text()];
    this.docker.modem.demuxStream(stream, stdout as never, stderr as never);
    await new Promise((resolve) => stream.once('end', resolve));
    const code = await eventually(async () => {
      const { ExitCode } = await exec.inspect();
      if (ExitCode === null) throw new Error('the command still runs');
      return ExitCode;
    });
    if (code !== 0) throw new Error(`${argv.join(' ')} ended with ${code}: ${stdout.text}${stderr.text}`);
    return stdout.text;
  }

  async removeAll(): Promise<void> {
    await Promise.all(this.#made.splice(0).map((container) => ignoreGone(container.remove({ force: true, v: true }))));
  }
}

class Text {
  text = '';

  write(chunk: Buffer): void {
    this.text += chunk.toString();
  }
}
