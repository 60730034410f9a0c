import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test } from 'vitest';

import { FilesLeadership } from '../../../../src/adapters/files/files-leadership.ts';
import { SocketLock } from '../../../../src/adapters/files/socket-lock.ts';
import { SystemClock } from '../../../../src/adapters/system/clock.ts';
import { eventually } from '../../../support/eventually.ts';
import { LeaderProcess } from '../../../support/leader-process.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';
import { tempDir } from '../../../support/temp-dir.ts';

const never = new AbortController().signal;

describe('SocketLock', () => {
  test('one holds it; the other hears when he lets go; nothing but the last turn is left', async () => {
    const dir = await tempDir();
    const [one, two] = [new SocketLock(dir, 'lock'), new SocketLock(dir, 'lock')];
    const first = await one.tryAcquire(() => ({ pid: 7 }));
    const second = await two.tryAcquire();
    if (first.kind !== 'acquired' || second.kind !== 'busy') throw new Error(`${first.kind}, ${second.kind}`);
    expect(second.document).toEqual({ pid: 7, turn: 1 });
    await first.lock.release();
    await first.lock.release();
    await second.released;
    const third = await two.tryAcquire();
    if (third.kind !== 'acquired') throw new Error(third.kind);
    expect(third.lock.document.turn).toBe(2);
    await third.lock.release();
    expect(await readdir(dir)).toEqual(['lock.json']);
  });

  test('of many who try at once exactly one holds it', async () => {
    const dir = await tempDir();
    for (let round = 0; round < 20; round += 1) {
      const attempts = await Promise.all(Array.from({ length: 8 }, () => new SocketLock(dir, 'lock').tryAcquire()));
      const held = attempts.flatMap((attempt) => (attempt.kind === 'acquired' ? [attempt.lock] : []));
      for (const attempt of attempts) if (attempt.kind === 'busy') attempt.stopWaiting();
      expect(held).toHaveLength(1);
      for (const lock of held) await lock.release();
    }
  });

  // Who gave up a number between somebody's two steps once let two through.
  test('I-33: however many come and go, one at a time is inside', async () => {
    const dir = await tempDir();
    let inside = 0;
    let most = 0;
    let left = 400;
    const come = async (): Promise<void> => {
      while (left > 0) {
        const attempt = await new SocketLock(dir, 'lock').tryAcquire();
        if (attempt.kind === 'busy') {
          attempt.stopWaiting();
          continue;
        }
        left -= 1;
        inside += 1;
        most = Math.max(most, inside);
        await readdir(dir);
        inside -= 1;
        await attempt.lock.release();
      }
    };
    await Promise.all(Array.from({ length: 8 }, come));
    expect(most).toBe(1);
  });

  test('what a dead holder left is passed by, also when it died between its two steps', async () => {
    const dir = await tempDir();
    await writeFile(join(dir, 'lock.json'), '{"turn": 4}');
    // Files that are no sockets answer like sockets without a listener.
    for (const turn of [4, 5, 6]) await writeFile(join(dir, `lock.${turn}.sock`), '');
    const attempt = await new SocketLock(dir, 'lock').tryAcquire();
    if (attempt.kind !== 'acquired') throw new Error(attempt.kind);
    expect(attempt.lock.document.turn).toBe(7);
    expect((await readdir(dir)).toSorted()).toEqual(['lock.7.sock', 'lock.json']);
    await attempt.lock.release();
  });

  test('a path that is longer than a socket address', async () => {
    const dir = join(await tempDir(), 'd'.repeat(100), 'e'.repeat(100));
    await mkdir(dir, { recursive: true });
    const first = await new SocketLock(dir, 'lock').tryAcquire();
    const second = await new SocketLock(dir, 'lock').tryAcquire();
    expect([first.kind, second.kind]).toEqual(['acquired', 'busy']);
    if (first.kind === 'acquired') await first.lock.release();
    if (second.kind === 'busy') await second.released;
  });
});

describe('FilesLeadership', () => {
  function leadership(stateDirectory: string, logger = new RecordingLogger()): FilesLeadership {
    return new FilesLeadership({ stateDirectory, clock: new SystemClock(), logger, checkMs: 20 });
  }

  test('a stopped leader keeps the lease; killed, it is followed at once', async () => {
    const dir = await tempDir();
    const leader = await LeaderProcess.start(dir, 'first');
    onTestFinished(() => leader.kill());
    const first = await leader.acquire(never);
    leader.signal('SIGSTOP');
    const holders: string[] = [];
    const waiting = leadership(dir).acquire(never, (holder) => holders.push(holder));
    await eventually(() => expect(holders).toEqual(['first']));
    // Many more than its socket has room for: still nobody takes it for dead.
    const others = await Promise.all(Array.from({ length: 700 }, () => new SocketLock(dir, 'leader').tryAcquire()));
    expect(others.filter(({ kind }) => kind === 'acquired')).toEqual([]);
    for (const other of others) if (other.kind === 'busy') other.stopWaiting();

    await leader.kill();
    const second = await waiting;
    expect(second.fence).toMatchObject({ authority: first.fence.authority, epoch: first.fence.epoch });
    expect(second.fence.n).toBeGreaterThan(first.fence.n);
    await second.release();
  });

  test('a state directory that is removed ends the term; the next one is another life', async () => {
    const dir = join(await tempDir(), 'state');
    const first = await leadership(dir).acquire(never);
    await rm(dir, { recursive: true });
    await eventually(() => expect(first.signal.aborted).toBe(true));
    const second = await leadership(dir).acquire(never);
    expect(second.fence.epoch).toBeGreaterThan(first.fence.epoch);
    await first.release();
    expect(second.signal.aborted).toBe(false);
    await second.release();
  });

  test('turns never fall, even when the directory was restored from an old backup', async () => {
    const dir = await tempDir();
    const before = Math.floor(new SystemClock().now() / 1000);
    await writeFile(join(dir, 'leader.json'), JSON.stringify({ turn: 1, authority: 'kept', createdAt: 5, n: 2 }));
    const term = await leadership(dir).acquire(never);
    expect(term.fence).toMatchObject({ authority: 'kept', epoch: 5 });
    expect(term.fence.n).toBeGreaterThanOrEqual(before);
    await term.release();
    await writeFile(join(dir, 'leader.json'), JSON.stringify({ turn: 9, authority: 'kept', createdAt: 5, n: 9e12 }));
    const next = await leadership(dir).acquire(never);
    expect(next.fence.n).toBe(9e12 + 1);
    await next.release();
  });

  test('a lease that cannot be read is waited for, not overwritten', async () => {
    const dir = await tempDir();
    await writeFile(join(dir, 'leader.json'), 'torn');
    const logger = new RecordingLogger();
    const stop = new AbortController();
    const waiting = leadership(dir, logger).acquire(stop.signal);
    await eventually(() => expect(logger.at('error').length).toBeGreaterThan(0));
    stop.abort(new Error('enough'));
    await expect(waiting).rejects.toMatchObject({ class: 'aborted' });
  });
});
