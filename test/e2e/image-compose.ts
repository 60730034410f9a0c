import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cp, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { afterAll, beforeAll, expect, it } from 'vitest';

import { eventually } from '../support/eventually.ts';

const run = promisify(execFile);
const PARTS = fileURLToPath(new URL('../../manifests/compose', import.meta.url));
const README = await readFile(new URL('../../README.md', import.meta.url), 'utf8');

const BUSY_MS = 300_000;

export interface Evening {
  readonly engine: string;
  /** Path of a socket of the engine, and the group that may use it. */
  readonly socket: string;
  readonly group: number;
  readonly images: Readonly<Record<'PLUGSET_IMAGE' | 'POSTGRES_IMAGE' | 'WORKSPACE_IMAGE', string>>;
  /** `127.0.0.1:port`, free. */
  readonly metricsAddress: string;
}

/** The commands of the README, one after the other, by `command`, with images that need not be pulled or built. */
export function describeCompose(command: string, open: () => Promise<Evening>): void {
  let evening: Evening;
  let dir: string;

  beforeAll(async () => {
    evening = await open();
    dir = await realpath(await mkdtemp(join(tmpdir(), 'plugset-compose-')));
    await cp(PARTS, dir, { recursive: true });
    const example = await readFile(join(dir, '.env.example'), 'utf8');
    const settings = {
      ...evening.images,
      COMPOSE_PROJECT_NAME: `plugset-test-${randomBytes(6).toString('hex')}`,
      POSTGRES_PASSWORD: randomBytes(12).toString('hex'),
      DOCKER_GID: String(evening.group),
      DOCKER_SOCKET: evening.socket,
      METRICS_ADDRESS: evening.metricsAddress,
    };
    const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
    await writeFile(join(dir, '.env'), [example, ...lines, ''].join('\n'));
  }, BUSY_MS);
  afterAll(async () => {
    if (dir === undefined) return;
    await compose('down', '--volumes');
    await rm(dir, { recursive: true });
  });

  const compose = async (...told: readonly string[]): Promise<string> => {
    const [program = '', ...first] = command.split(' ');
    // Nobody sits at a terminal here.
    const args = told.flatMap((arg) => (arg === 'exec' ? ['exec', '-T'] : [arg]));
    const env = { PATH: process.env['PATH'], HOME: process.env['HOME'], DOCKER_HOST: evening.engine };
    const { stdout } = await run(program, [...first, ...args], { cwd: dir, env });
    return stdout;
  };
  const pluginsOf = async (service: string): Promise<readonly string[]> =>
    (await compose('exec', service, 'ls', '-1', '/configs/plugins')).trim().split('\n');
  it(
    'runs the commands of the README',
    async () => {
      const [up, apply, status, remove, down] = commandsOf(README) as [Line, Line, Line, Line, Line];
      expect([up, down]).toEqual([
        ['up', '-d', '--build'],
        ['down', '-v'],
      ]);
      await compose('up', '-d');
      // The database has to come up before the daemon, and the daemon before anybody can declare.
      await eventually(async () => expect((await fetch(`http://${evening.metricsAddress}/readyz`)).status).toBe(200));
      expect(await compose(...apply)).toMatch(/alice[^]*bob/);
      await eventually(async () => {
        expect(await compose(...status)).toMatch(/evening    alice  True .* 2\/2 .*\nevening    bob    True .* 1\/1 /);
      });
      expect(await pluginsOf('alice')).toEqual(['greeter', 'notes']);
      expect(await compose(...remove)).toBe('DELETE 1\n');
      await eventually(async () => expect(await pluginsOf('alice')).toEqual(['greeter']));
      await compose(...down);
    },
    BUSY_MS,
  );
}

type Line = readonly string[];

/** `docker compose …` lines, as arguments. */
function commandsOf(text: string): readonly (readonly string[])[] {
  const section = /^## A first evening[^]*?^## /m.exec(text)?.[0] ?? '';
  return [...section.matchAll(/^docker compose (.*?)(?: +#.*)?$/gm)].map(([, line = '']) =>
    [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare = '']) => quoted ?? bare),
  );
}
