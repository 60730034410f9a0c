import { expect } from 'vitest';

import type { ControllerState } from '../../src/ports/controller-state.ts';
import { describeCases, type Cases, type Unsupported } from './cases.ts';

/** One empty back end. */
export interface ControllerStateBackend {
  /** One more on this back end, as the next process would open it. */
  open(): Promise<ControllerState>;
  /** Nothing can be read or written from now on, until `heal`. */
  break(): Promise<void>;
  heal(): Promise<void>;
  dispose(): Promise<void>;
}

export interface ControllerStateHarness {
  create(): Promise<ControllerStateBackend>;
  /** Cases that cannot hold here, by name, each with the reason. A name that is no case fails the suite. */
  readonly unsupported?: Unsupported;
}

interface CaseContext {
  readonly backend: ControllerStateBackend;
  readonly state: ControllerState;
  readonly signal: AbortSignal;
}

export function describeControllerState(name: string, harness: ControllerStateHarness): void {
  describeCases(`ControllerState: ${name}`, CASES, harness.unsupported, async (later): Promise<CaseContext> => {
    const backend = await harness.create();
    later(() => backend.dispose());
    return { backend, state: await backend.open(), signal: new AbortController().signal };
  });
}

const DOCUMENT = {
  text: 'it\'s "quoted",\nbroken and ½',
  list: [1, -2.5, null, true, { deep: [] }],
  empty: {},
  __proto__x: 'y',
};

const CASES: Cases<CaseContext> = {
  'a document nobody wrote is undefined': async ({ state, signal }) => {
    expect(await state.get('nothing', signal)).toBeUndefined();
  },

  'what was written comes back, with its version, for every process': async ({ backend, state, signal }) => {
    const version = await state.compareAndSwap('restart/alice', undefined, DOCUMENT, signal);
    expect(version).toEqual(expect.any(String));
    expect(await state.get('restart/alice', signal)).toEqual({ value: DOCUMENT, version });
    expect(await (await backend.open()).get('restart/alice', signal)).toEqual({ value: DOCUMENT, version });
  },

  'any JSON is a document': async ({ state, signal }) => {
    for (const [index, value] of [null, false, 0, '', [], 'text'].entries()) {
      const version = await state.compareAndSwap(`doc-${index}`, undefined, value, signal);
      expect(await state.get(`doc-${index}`, signal)).toEqual({ value, version });
    }
  },

  'keys are apart': async ({ state, signal }) => {
    const keys = ['a', 'a/b', 'a/b/c', 'a/b/c/d', 'a.b', 'a-b', `${'x'.repeat(128)}/y`];
    for (const key of keys) await state.compareAndSwap(key, undefined, key, signal);
    for (const key of keys) expect((await state.get(key, signal))?.value).toBe(key);
  },

  'a folder is listed with everything in it, and nothing else': async ({ backend, state, signal }) => {
    expect(await state.list('a', signal)).toEqual([]);
    const inside = ['a/b', 'a/b.json', 'a/b.json/c', 'a/x_y/z', 'a/b/c/d'];
    for (const key of [...inside, 'a', 'ab/c', 'b/a', 'a.json/b'])
      await state.compareAndSwap(key, undefined, 1, signal);
    expect((await (await backend.open()).list('a', signal)).toSorted()).toEqual(inside.toSorted());
    expect(await state.list('a.json', signal)).toEqual(['a.json/b']);
    const version = (await state.get('a/b', signal))?.version ?? '';
    await state.remove('a/b', version, signal);
    expect(await state.list('a', signal)).toHaveLength(inside.length - 1);
  },

  'a swap needs the version that is there': async ({ state, signal }) => {
    const first = await state.compareAndSwap('key', undefined, 1, signal);
    expect(await state.compareAndSwap('key', undefined, 2, signal)).toBeUndefined();
    expect(await state.compareAndSwap('key', 'never-given', 2, signal)).toBeUndefined();
    const second = await state.compareAndSwap('key', first, 2, signal);
    expect(second).toEqual(expect.any(String));
    expect(second).not.toBe(first);
    expect(await state.compareAndSwap('key', first, 3, signal)).toBeUndefined();
    expect(await state.get('key', signal)).toEqual({ value: 2, version: second });
    expect(await state.compareAndSwap('absent', first, 3, signal)).toBeUndefined();
    expect(await state.get('absent', signal)).toBeUndefined();
  },

  'writing the same value again is a new version': async ({ state, signal }) => {
    const first = await state.compareAndSwap('key', undefined, 'same', signal);
    expect(await state.compareAndSwap('key', first, 'same', signal)).not.toBe(first);
  },

  'a removal needs the version that is there, and leaves nothing': async ({ state, signal }) => {
    const first = await state.compareAndSwap('key', undefined, 1, signal);
    const second = await state.compareAndSwap('key', first, 2, signal);
    expect(await state.remove('key', first ?? '', signal)).toBe(false);
    expect((await state.get('key', signal))?.value).toBe(2);
    expect(await state.remove('key', second ?? '', signal)).toBe(true);
    expect(await state.get('key', signal)).toBeUndefined();
    expect(await state.remove('key', second ?? '', signal)).toBe(false);
  },

  'a version of a removed document does not fit the next one of that key': async ({ state, signal }) => {
    const first = await state.compareAndSwap('key', undefined, 1, signal);
    await state.remove('key', first ?? '', signal);
    expect(await state.compareAndSwap('key', undefined, 1, signal)).toEqual(expect.any(String));
    expect(await state.compareAndSwap('key', first, 2, signal)).toBeUndefined();
    expect(await state.remove('key', first ?? '', signal)).toBe(false);
  },

  'I-33: of many who write a first version at once, one succeeds': async ({ backend, signal }) => {
    const writers = await Promise.all(Array.from({ length: 12 }, () => backend.open()));
    const versions = await Promise.all(
      writers.map((writer, index) => writer.compareAndSwap('key', undefined, index, signal)),
    );
    const winners = versions.flatMap((version, index) => (version === undefined ? [] : [{ value: index, version }]));
    expect(winners).toHaveLength(1);
    expect(await writers[0]?.get('key', signal)).toEqual(winners[0]);
  },

  'I-33: no increment of many at once is lost': async ({ backend, state, signal }) => {
    await state.compareAndSwap('count', undefined, 0, signal);
    const increment = async (writer: ControllerState): Promise<void> => {
      for (;;) {
        const now = await writer.get('count', signal);
        if (now === undefined) throw new Error('the count is gone');
        if ((await writer.compareAndSwap('count', now.version, (now.value as number) + 1, signal)) !== undefined)
          return;
      }
    };
    const writers = await Promise.all(Array.from({ length: 6 }, () => backend.open()));
    await Promise.all(writers.flatMap((writer) => [increment(writer), increment(writer)]));
    expect((await state.get('count', signal))?.value).toBe(12);
  },

  'keys and documents outside the limits are refused as our own fault': async ({ state, signal }) => {
    const fault = { name: 'ReconcileError', class: 'terminal', reason: 'Internal' };
    const badKeys = [
      '',
      '/',
      'a/',
      '/a',
      'a//b',
      '../a',
      'a/../b',
      '.a',
      'A',
      'a b',
      'a\n',
      'a/b/c/d/e',
      'x'.repeat(129),
      'a\0',
    ];
    for (const key of badKeys) {
      await expect(state.get(key, signal)).rejects.toMatchObject(fault);
      await expect(state.compareAndSwap(key, undefined, 1, signal)).rejects.toMatchObject(fault);
      await expect(state.remove(key, '1', signal)).rejects.toMatchObject(fault);
    }
    await expect(state.compareAndSwap('large', undefined, 'x'.repeat(256 * 1024), signal)).rejects.toMatchObject(fault);
    await expect(state.compareAndSwap('undefined', undefined, undefined, signal)).rejects.toMatchObject(fault);
    const largest = 'x'.repeat(256 * 1024 - 2);
    await state.compareAndSwap('large', undefined, largest, signal);
    expect((await state.get('large', signal))?.value).toBe(largest);
  },

  'a back end that cannot be read is an error, never an absent document': async ({ backend, state, signal }) => {
    const unavailable = { name: 'ReconcileError', class: 'transient', reason: 'StoreUnavailable' };
    const version = await state.compareAndSwap('key', undefined, 1, signal);
    await backend.break();
    await expect(state.get('key', signal)).rejects.toMatchObject(unavailable);
    await expect(state.compareAndSwap('key', version, 2, signal)).rejects.toMatchObject(unavailable);
    await expect(state.remove('key', version ?? '', signal)).rejects.toMatchObject(unavailable);
    await expect(state.list('key', signal)).rejects.toMatchObject(unavailable);
    await backend.heal();
    expect(await state.get('key', signal)).toEqual({ value: 1, version });
  },

  'an aborted signal ends a call': async ({ state }) => {
    await expect(state.get('key', AbortSignal.abort(new Error('stopping')))).rejects.toBeInstanceOf(Error);
  },
};
