import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

import { commandOf, endProcess, identityOf } from './processes.ts';

/** The compiled scripts lie in .plugset-dev/build/manifests/demo. */
const CHECKOUT = fileURLToPath(new URL('../../../..', import.meta.url)).replace(/\/$/, '');
export const SCRIPTS = fileURLToPath(new URL('.', import.meta.url));
export const MAIN = join(CHECKOUT, 'dist/main.js');

/** Sources that are paths may have no other characters, and lists of directories are separated by commas. */
const PLAIN_PATH = /^[A-Za-z0-9_.~+@=/-]+$/;

const RECORD = 'running.json';

/** What runs, so that the start after a crash can end it. */
interface Running {
  readonly start: number;
  readonly identity: string;
  daemon?: number;
  postgres?: { readonly pid: number; readonly directory: string };
}

/** The directory that the demo happens in. One `npm start` at a time has it. */
export class Place {
  readonly dir: string;
  /** Tells the containers and databases of two checkouts apart. */
  readonly suffix: string;
  readonly #running: Running = { start: process.pid, identity: identityOf(process.pid) };

  private constructor(dir: string) {
    this.dir = dir;
    this.suffix = hash(dir);
  }

  /** Rejects when a start that lives has the directory. Changes nothing. */
  static async ensureFree(dir?: string): Promise<void> {
    refuseWhenAlive(await new Place(dir ?? defaultDirectory()).#recorded());
  }

  /** Takes the directory, ends what a start that crashed has left running, and empties it. */
  static async claim(dir: string | undefined): Promise<Place> {
    const place = new Place(dir ?? defaultDirectory());
    await mkdir(place.dir, { recursive: true });
    await place.#endLeftovers();
    await writeFile(place.#record, JSON.stringify(place.#running), { flag: 'wx' }).catch(async (error: unknown) => {
      // Another start came at the same moment and was faster.
      refuseWhenAlive(await place.#recorded());
      throw error;
    });
    for (const name of await readdir(place.dir)) {
      if (name !== 'build' && name !== RECORD) await rm(place.path(name), { recursive: true, force: true });
    }
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
    const next = `${this.#record}.next`;
    await writeFile(next, JSON.stringify(this.#running));
    await rename(next, this.#record);
  }

  async release(): Promise<void> {
    await rm(this.#record, { force: true });
  }

  async #endLeftovers(): Promise<void> {
    const left = await this.#recorded();
    if (left === undefined) return;
    refuseWhenAlive(left);
    const { daemon, postgres } = left;
    console.log('The last start did not end well; ending what it left.');
    if (daemon !== undefined && commandOf(daemon).includes(MAIN)) await endProcess(daemon, 'SIGTERM');
    if (postgres !== undefined) {
      if (commandOf(postgres.pid).includes(postgres.directory)) await endProcess(postgres.pid, 'SIGINT');
      await rm(postgres.directory, { recursive: true, force: true });
    }
    await rm(this.#record, { force: true });
  }

  get #record(): string {
    return this.path(RECORD);
  }

  /** `undefined`: no start has the directory, or it has just let go of it. */
  async #recorded(): Promise<Running | undefined> {
    try {
      return JSON.parse(await readFile(this.#record, 'utf8')) as Running;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new Error(`${this.#record} cannot be read; when no npm start runs here, delete it`, { cause: error });
    }
  }
}

function refuseWhenAlive(running: Running | undefined): void {
  if (running === undefined) return;
  const identity = identityOf(running.start);
  if (identity === '' || identity !== running.identity) return;
  throw new Error(`npm start is already running here (pid ${running.start}): use its terminal, or end it with Ctrl-C.`);
}

function defaultDirectory(): string {
  if (PLAIN_PATH.test(CHECKOUT)) return join(CHECKOUT, '.plugset-dev');
  return join(tmpdir(), `plugset-demo-${hash(CHECKOUT)}`);
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 4);
}
