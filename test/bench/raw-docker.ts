import { spawn } from 'node:child_process';
import { once } from 'node:events';

import type Docker from 'dockerode';

/** One exec over the API and nothing else: create, start, read to the end, and the exit code if somebody wants it. */
export async function bareExec(
  container: Docker.Container,
  argv: readonly string[],
  readsExitCode: boolean,
): Promise<void> {
  const exec = await container.exec({ Cmd: [...argv], AttachStdout: true, AttachStderr: true });
  const stream = await exec.start({ hijack: true, stdin: false });
  stream.resume();
  await once(stream, 'end');
  stream.destroy();
  if (!readsExitCode) return;
  while ((await exec.inspect()).Running);
}

/** How the replaced system looks: `ls`, then the manifest of one plugin after the other; whether it worked is not asked. */
export async function lookOneByOne(
  container: Docker.Container,
  configDir: string,
  plugins: readonly string[],
): Promise<void> {
  await bareExec(container, ['ls', '-1', `${configDir}/plugins`], false);
  for (const plugin of plugins) await bareExec(container, ['cat', `${configDir}/plugins/${plugin}/plugin.yaml`], false);
}

const PIPE = 'tar -C "$1" -cf - . | docker exec -i "$2" tar -C "$3" -xf -';

/** The shortest way from a directory into a container that a person would type. */
export async function tarThroughCli(engine: string, from: string, container: string, to: string): Promise<void> {
  const env = { PATH: process.env['PATH'], DOCKER_HOST: engine, HOME: '/nonexistent' };
  const child = spawn('sh', ['-c', PIPE, 'sh', from, container, to], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`tar | docker exec tar ended with ${code}`);
}
