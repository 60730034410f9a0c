import { randomUUID } from 'node:crypto';
import { link, mkdir, open, readFile, rm, stat, utimes } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { platform } from 'node:process';
import { join } from 'node:path';

import { codeOf } from '../../domain/error-code.ts';
import { isMissing } from './node-error.ts';
import { PRIVATE_DIRECTORY, writePrivately } from './write-atomically.ts';

/*
 * A lock between processes that ends with its holder, which Node has no call for (no flock).
 *
 * The holder listens on a Unix socket. Whether a socket file has a living listener is answered by the kernel: `connect`
 * is refused exactly when nobody holds it open, across PID namespaces and containers, and a stopped (SIGSTOP) process
 * still holds it. A pid in a file answers none of that.
 *
 * Turns make it exclusive. NAME.json says which turn was last; the holder of turn t listens on NAME.t.sock. To acquire:
 *
 *   1. read the turn t from NAME.json; if somebody listens on NAME.t.sock, he holds the lock
 *   2. link an own, already listening socket to NAME.(t+1).sock, which fails if that exists; then its owner either
 *      lives (and holds the lock, or gives up in a moment) or died on the way: go on with t+1. If it is gone by the
 *      time we ask, its owner gave up and somebody else may take that very number: begin again
 *   3. read NAME.json again; if the turn is no longer the one of step 1 others were through here meanwhile and have
 *      tidied up after themselves, so that an old number seemed free: give up and begin again
 *   4. write the new turn into NAME.json, then remove the sockets of the turns before
 *
 * Nobody unlinks a socket that is not his own before NAME.json carries a higher turn (4 after 3), so two living
 * processes never pass step 3 with NAME.json at the same turn.
 */

/** What NAME.json holds: the turn, and whatever the holder wants others to know. */
export interface LockDocument {
  readonly turn: number;
  readonly [note: string]: string | number;
}

/** Texts and numbers by name. */
export type LockNote = Readonly<Record<string, string | number>>;

export type LockAttempt =
  | { readonly kind: 'acquired'; readonly lock: HeldLock }
  | {
      readonly kind: 'busy';
      /** What the holder noted, if it could be read. */
      readonly document: LockDocument | undefined;
      /** Resolves when the holder lets go or dies. */
      readonly released: Promise<void>;
      /** Ends the wait for it. */
      stopWaiting(): void;
    };

export interface HeldLock {
  readonly document: LockDocument;
  /** Idempotent. */
  release(): Promise<void>;
}

export class SocketLock {
  readonly #directory: string;
  readonly #name: string;

  constructor(directory: string, name: string) {
    this.#directory = directory;
    this.#name = name;
  }

  /** What the last holder noted; `undefined` when there never was one. Throws what the file system throws. */
  async read(): Promise<LockDocument | undefined> {
    try {
      const document: unknown = JSON.parse(await readFile(this.#path('json'), 'utf8'));
      if (isLockDocument(document)) return document;
      throw new Error(`${this.#path('json')} is no lock document; remove it if no plugset runs on this directory`);
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** Notes on NAME.json that its holder lived at this time. */
  async touch(nowMs: number): Promise<void> {
    await utimes(this.#path('json'), nowMs / 1000, nowMs / 1000);
  }

  /** When NAME.json was last touched or written, Unix milliseconds. */
  async touchedAtMs(): Promise<number> {
    return (await stat(this.#path('json'))).mtimeMs;
  }

  /** Whether the holder of this turn lives. */
  async isHeld(turn: number): Promise<boolean> {
    const answer = await this.#probe(turn);
    if (answer.kind === 'alive') answer.socket.destroy();
    return answer.kind === 'alive';
  }

  /** Tries once. `note` is called when the lock is ours, with what the last holder noted; it becomes NAME.json. */
  async tryAcquire(
    note: (previous: LockDocument | undefined) => LockNote = () => ({}),
    isDurable = false,
  ): Promise<LockAttempt> {
    await mkdir(this.#directory, { recursive: true, mode: PRIVATE_DIRECTORY });
    for (;;) {
      const previous = await this.read();
      const first = previous?.turn ?? 0;
      const claim = await this.#claimAfter(first);
      if (claim.kind === 'moved') continue;
      if (claim.kind === 'busy') return { ...claim, document: await this.read().catch(() => undefined) };
      try {
        const now = await this.read();
        if ((now?.turn ?? 0) === first) {
          const document = { ...note(previous), turn: claim.turn };
          await writePrivately(this.#path('json'), `${JSON.stringify(document, undefined, 2)}\n`, isDurable);
          for (let turn = first; turn < claim.turn; turn += 1) await rm(this.#path(`${turn}.sock`), { force: true });
          return { kind: 'acquired', lock: { document, release: () => claim.release() } };
        }
      } catch (error) {
        await claim.release();
        throw error;
      }
      await claim.release();
    }
  }

  async #claimAfter(first: number): Promise<Claim> {
    let listener: Listener | undefined;
    try {
      for (let turn = first; ; turn += 1) {
        const answer = await this.#probe(turn);
        if (answer.kind === 'alive') {
          await listener?.close();
          return { kind: 'busy', released: answer.gone, stopWaiting: () => void answer.socket.destroy() };
        }
        // Only the turn in NAME.json may be gone: its holder let go.
        if (answer.kind === 'moved' || (answer.kind === 'missing' && turn > first)) {
          await listener?.close();
          return { kind: 'moved' };
        }
        listener ??= await this.#listen();
        const path = this.#path(`${turn + 1}.sock`);
        if (await linkIfFree(listener.path, path)) return await claimOf(turn + 1, path, listener);
      }
    } catch (error) {
      await listener?.close();
      throw error;
    }
  }

  /** Whether somebody lives and listens on this turn. */
  async #probe(turn: number): Promise<Probe> {
    return this.#withShortPath(`${turn}.sock`, (path) => {
      const socket = connect(path);
      const gone = new Promise<void>((resolve) => socket.once('close', () => resolve()));
      return new Promise((resolve, reject) => {
        socket.once('connect', () => {
          socket.on('error', () => {});
          resolve({ kind: 'alive', socket, gone });
        });
        socket.once('error', (error) => {
          const code = codeOf(error);
          if (code === 'ECONNREFUSED') resolve({ kind: 'dead' });
          else if (code === 'ENOENT') resolve({ kind: 'missing' });
          // He died, or let go, between our call and his answer.
          else if (code === 'ECONNRESET') resolve({ kind: 'moved' });
          // The queue of a stopped holder is full: he lives, and cannot tell when he goes.
          else if (code === 'EAGAIN') resolve({ kind: 'alive', socket, gone: new Promise(() => {}) });
          else reject(error);
        });
      });
    });
  }

  async #listen(): Promise<Listener> {
    const name = `${randomUUID()}.sock`;
    const connections = new Set<Socket>();
    const server = createServer((socket) => {
      connections.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => connections.delete(socket));
      // Waiting processes must not hold this one open, nor does the lock itself.
      socket.unref();
    });
    server.unref();
    await this.#withShortPath(name, (path) => listening(server, path));
    const path = this.#path(name);
    const close = async (): Promise<void> => {
      if (!server.listening) return;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of connections) socket.destroy();
      await closed;
      await rm(path, { force: true });
    };
    return { path, close, isClosed: () => !server.listening };
  }

  /** A socket address holds about 100 bytes, a path 4096; on Linux an open directory is a short way to a deep place. */
  async #withShortPath<T>(name: string, use: (path: string) => Promise<T>): Promise<T> {
    const path = this.#path(name);
    if (Buffer.byteLength(path) < 100 || platform !== 'linux') return use(path);
    const directory = await open(this.#directory, 'r');
    try {
      return await use(`/proc/self/fd/${directory.fd}/${this.#name}.${name}`);
    } finally {
      await directory.close();
    }
  }

  #path(suffix: string): string {
    return join(this.#directory, `${this.#name}.${suffix}`);
  }
}

type Probe =
  | { readonly kind: 'alive'; readonly socket: Socket; readonly gone: Promise<void> }
  | { readonly kind: 'dead' }
  | { readonly kind: 'missing' }
  | { readonly kind: 'moved' };

type Claim =
  /** Something changed under our hands: begin again. */
  | { readonly kind: 'moved' }
  | { readonly kind: 'claimed'; readonly turn: number; release(): Promise<void> }
  | { readonly kind: 'busy'; readonly released: Promise<void>; stopWaiting(): void };

interface Listener {
  readonly path: string;
  close(): Promise<void>;
  isClosed(): boolean;
}

async function claimOf(turn: number, path: string, listener: Listener): Promise<Claim> {
  await rm(listener.path, { force: true });
  const release = async (): Promise<void> => {
    if (listener.isClosed()) return;
    await rm(path, { force: true });
    await listener.close();
  };
  return { kind: 'claimed', turn, release };
}

async function listening(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      server.on('error', () => {});
      resolve();
    });
  });
}

async function linkIfFree(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  }
}

function isLockDocument(value: unknown): value is LockDocument {
  return typeof value === 'object' && value !== null && 'turn' in value && Number.isSafeInteger(value.turn);
}
