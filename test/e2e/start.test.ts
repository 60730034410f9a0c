import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { beforeAll, describe, expect, it } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { connectDocker } from '../support/docker-client.ts';
import { eventually } from '../support/eventually.ts';
import { tempDir } from '../support/temp-dir.ts';

const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const NO_DOCKER = 'unix:///nonexistent/docker.sock';
const STORY_MS = 180_000;

interface Start {
  readonly process: ChildProcess;
  output(): string;
  /** Resolves with the exit code, or the signal. */
  readonly ended: Promise<number | NodeJS.Signals>;
}

/** The last step of `npm start`; the ones before it have installed and built. */
function start(args: readonly string[], env: Readonly<Record<string, string>>): Start {
  const script = '.plugset-dev/build/manifests/demo/start.js';
  const { PATH, HOME } = process.env;
  const child = spawn(process.execPath, [script, ...args], { cwd: CHECKOUT, env: { PATH, HOME, ...env } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals);
  return { process: child, output: () => output, ended };
}

async function finished(story: Start): Promise<string> {
  expect([await story.ended, story.output()]).toEqual([0, expect.stringContaining('Nothing is left running.')]);
  return story.output();
}

/** Process ids of what a start has running. */
async function idsIn(dir: string): Promise<readonly number[]> {
  const running = JSON.parse(await readFile(join(dir, 'running.json'), 'utf8')) as {
    daemon: number;
    postgres: { pid: number };
  };
  return [running.daemon, running.postgres.pid];
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

beforeAll(() => {
  const tsc = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'manifests/demo'], {
    cwd: CHECKOUT,
  });
  expect(tsc.status, tsc.stdout.toString()).toBe(0);
});

await withBackend('postgres', (postgres) => {
  describe('npm start without Docker', () => {
    it(
      'survives a crash of the one before, cleans up on Ctrl-C, and leaves nothing running',
      { timeout: STORY_MS },
      async () => {
        const dir = await tempDir();
        const crashed = start(['--dir', dir], { DOCKER_HOST: NO_DOCKER });
        await eventually(() => expect(crashed.output()).toContain('Ctrl-C ends everything'), STORY_MS);
        const orphans = await idsIn(dir);
        crashed.process.kill('SIGKILL');
        await crashed.ended;
        expect(orphans.map(isAlive)).toEqual([true, true]);

        const second = start(['--dir', dir], { DOCKER_HOST: NO_DOCKER });
        await eventually(() => expect(second.output()).toContain('Ctrl-C ends everything'), STORY_MS);
        // Process 1 collects orphans in its own time; until then their ids exist.
        await eventually(() => expect(orphans.map(isAlive)).toEqual([false, false]));
        const third = start(['--dir', dir], { DOCKER_HOST: NO_DOCKER });
        expect(await third.ended, 'one at a time').toBe(1);
        expect(third.output()).toBe(
          `npm start is already running here (pid ${second.process.pid}): use its terminal, or end it with Ctrl-C.\n`,
        );
        const ids = await idsIn(dir);
        second.process.kill('SIGINT');
        const output = await finished(second);
        expect(output).toMatch(/Postgres: +a server of its own/);
        expect(output).toMatch(/Workspaces: +directories, because no container could be made: /);
        expect(ids.map(isAlive)).toEqual([false, false]);
      },
    );
  });

  describe('npm start with a Postgres that runs', () => {
    it('says so, and heals everything that it tells people to try', { timeout: STORY_MS }, async () => {
      const dir = await tempDir();
      const output = await finished(
        start(['--check', '--dir', dir], { DOCKER_HOST: NO_DOCKER, DATABASE_URL: postgres }),
      );
      expect(output).toMatch(/Postgres: +the server that DATABASE_URL names/);
      expect(output).toMatch(/alice +True +Succeeded +2\/2 +restored greeter/);
      expect(output).toMatch(/carol +- +Deleted/);
    });
  });
});

await withBackend('docker', (address) => {
  describe('npm start with Docker', () => {
    it('makes containers, heals what happens in them, and removes them', { timeout: STORY_MS }, async () => {
      const dir = await tempDir();
      const output = await finished(start(['--check', '--dir', dir], { DOCKER_HOST: address }));
      expect(output).toMatch(/Workspaces: +containers of the Docker engine/);
      expect(output).toMatch(/bob +True +Succeeded +2\/2 +restored greeter/);
      const label = { label: ['dev.plugset.demo'] };
      const containers = await connectDocker(address).listContainers({ all: true, filters: label });
      expect(containers.filter(({ Names }) => output.includes(Names[0]?.slice(1) ?? '?'))).toEqual([]);
    });
  });
});
