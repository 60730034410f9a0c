import type { Duplex } from 'node:stream';

import type Docker from 'dockerode';

/** A shell of root's that stays in a container: what it is told costs a hundredth of an exec. */
export class ContainerConsole {
  readonly #stream: Duplex;
  #output = '';
  #stderr = '';
  #wake: () => void = () => undefined;
  #scripts = 0;

  private constructor(docker: Docker, stream: Duplex) {
    this.#stream = stream;
    const output = {
      write: (chunk: Buffer): void => {
        this.#output += chunk.toString();
        this.#wake();
      },
    };
    const errors = { write: (chunk: Buffer): void => void (this.#stderr += chunk.toString()) };
    docker.modem.demuxStream(stream, output as never, errors as never);
    stream.on('close', () => this.#wake());
  }

  static async open(docker: Docker, container: Docker.Container): Promise<ContainerConsole> {
    const streams = { AttachStdin: true, AttachStdout: true, AttachStderr: true };
    const exec = await container.exec({ Cmd: ['sh'], User: '0:0', ...streams });
    return new ContainerConsole(docker, await exec.start({ hijack: true, stdin: true }));
  }

  /** What a script printed; rejects when it failed. One at a time. */
  async run(script: string): Promise<string> {
    this.#scripts += 1;
    const mark = `\n--- ${this.#scripts} `;
    this.#output = '';
    this.#stderr = '';
    this.#stream.write(`(set -eu\n${script}\n) </dev/null; printf '\\n--- %s %s\\n' ${this.#scripts} $?\n`);
    for (;;) {
      const at = this.#output.indexOf(mark);
      if (at >= 0 && this.#output.endsWith('\n')) {
        const code = this.#output.slice(at + mark.length).trim();
        if (code !== '0') throw new Error(`the script ended with ${code}: ${this.#stderr}`);
        return this.#output.slice(0, at);
      }
      if (this.#stream.destroyed) throw new Error(`the console is closed: ${this.#stderr}`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  close(): void {
    this.#stream.destroy();
  }
}
