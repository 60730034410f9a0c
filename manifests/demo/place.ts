import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

import { commandOf, endProcess } from './processes.ts';

/** The compiled scripts lie in .plugset-dev/build/manifests/demo. */
const CHECKOUT = fileURLToPath(new URL('../../../..', import.meta.url)).replace(/\/$/, '');
export const SCRIPTS = fileURLToPath(new URL('.', import.meta.url));
export const MAIN = join(CHECKOUT, 'dist/main.js');

/** Sources that are paths may have no other characters, and lists of directories are separated by commas. */
const PLAIN_PATH = /^[A-Za-z0-9_.~+@=/-]+$/;

/** What runs, so that the start after a crash can end it. */
interface Running {
  readonly start: number;
  daemon?: number;
  postgres?: { readonly pid: number; readonly directory: string };
}

/** The directory that the demo happens in. One `npm start` at a time has it. */
export class Place {
  readonly dir: string;
  /** Tells the containers and databases of two checkouts apart. */
  readonly suffix: string;
  readonly #running: Running = { start: process.pid };

  private constructor(dir: string) {
    this.dir = dir;
    this.suffix = hash(dir);
  }

  /** Takes the directory, ends what a start that crashed has left running, and empties it. */
  static async claim(dir: string | undefined): Promise<Place> {
    const place = new Place(dir ?? defaultDirectory());
    await mkdir(place.dir, { recursive: true });
    await place.#endLeftovers();
    for (const name of await readdir(place.dir)) {
      if (name !== 'build') await rm(place.path(name), { recursive: true });
    }
    await place.record({});
    return place;
  }

  path(...names: readonly string[]): string {
    return join(this.dir, ...names);
  }

  /** As a person in the directory of this process would type it. */
  shown(...names: readonly string[]): string {
    const path = relative(process.cwd(), this.path(...names));
    return path.startsWith('..') ? this.path(...names) : path;
  }

  async record(started: Partial<Running>): Promise<void> {
    Object.assign(this.#running, started);
    await writeFile(this.path('running.json'), JSON.stringify(this.#running));
  }

  async release(): Promise<void> {
    await rm(this.path('running.json'), { force: true });
  }

  async #endLeftovers(): Promise<void> {
    const left = await readFile(this.path('running.json'), 'utf8').catch(() => undefined);
    if (left === undefined) return;
    const { start, daemon, postgres } = JSON.parse(left) as Running;
    if (commandOf(start).includes(join(SCRIPTS, 'start.js'))) {
      throw new Error(`npm start runs here already (process ${start}); stop it first`);
    }
    console.log('The last start did not end well; ending what it left.');
    if (daemon !== undefined && commandOf(daemon).includes(MAIN)) await endProcess(daemon, 'SIGTERM');
    if (postgres === undefined) return;
    if (commandOf(postgres.pid).includes(postgres.directory)) await endProcess(postgres.pid, 'SIGINT');
    await rm(postgres.directory, { recursive: true, force: true });
  }
}

function defaultDirectory(): string {
  if (PLAIN_PATH.test(CHECKOUT)) return join(CHECKOUT, '.plugset-dev');
  return join(tmpdir(), `plugset-demo-${hash(CHECKOUT)}`);
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 4);
}
