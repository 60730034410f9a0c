import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';

import type { KubeObject } from '../../../../src/adapters/kube/kube-object.ts';
import { ObjectStore, type Change } from '../../../../src/adapters/kube/object-store.ts';

interface Facts {
  readonly name?: string;
  readonly uid?: string;
  readonly version?: string;
  readonly generation?: number;
}

function object({ name = 'alice', uid = 'u1', version = '1', generation = 1 }: Facts = {}): KubeObject {
  return { metadata: { namespace: 'team-a', name, uid, resourceVersion: version, generation } };
}

/** Keys of objects that could not be read. */
const faults: string[] = [];
const onFault = (key: string): void => void faults.push(key);
afterEach(() => void faults.splice(0));

function newStore(): ObjectStore<string> {
  return new ObjectStore({ transform: ({ metadata }) => `${metadata.uid}@${metadata.resourceVersion}`, onFault });
}

function kindsOf(changes: readonly Change<string>[]): readonly string[] {
  return changes.map(({ kind, key }) => `${kind} ${key}`);
}

function replaceWith(store: ObjectStore<string>, objects: readonly KubeObject[]): readonly Change<string>[] {
  const replacement = store.replace();
  for (const one of objects) replacement.add(one);
  return replacement.commit();
}

describe('news of one object', () => {
  it('is an addition, then a change with what was before, then a deletion with what it was', () => {
    const store = newStore();
    expect(store.put(object())).toEqual([{ kind: 'added', key: 'team-a/alice', object: 'u1@1' }]);
    expect(store.put(object({ version: '2' }))).toEqual([
      { kind: 'changed', key: 'team-a/alice', object: 'u1@2', before: 'u1@1' },
    ]);
    expect(store.get('team-a/alice')).toBe('u1@2');
    expect(store.remove(object({ version: '3' }))).toEqual([
      { kind: 'gone', key: 'team-a/alice', before: 'u1@3', isTombstone: false },
    ]);
    expect([store.size, [...store.values()]]).toEqual([0, []]);
  });

  it('that comes twice is told once', () => {
    const store = newStore();
    store.put(object());
    expect(store.put(object())).toEqual([]);
    store.remove(object({ version: '2' }));
    expect(store.remove(object({ version: '2' }))).toEqual([]);
  });

  it('that is older by its generation is no news, whatever its version looks like', () => {
    const store = newStore();
    store.put(object({ version: '7', generation: 3 }));
    expect(store.put(object({ version: '9', generation: 2 }))).toEqual([]);
    expect(store.get('team-a/alice')).toBe('u1@7');
  });

  it('that comes after its deletion raises nobody from the dead', () => {
    const store = newStore();
    store.put(object());
    store.remove(object({ version: '3' }));
    expect(store.put(object({ version: '2' }))).toEqual([]);
    expect(store.size).toBe(0);
  });

  it('of one that had lost its label and has it again is an addition', () => {
    const store = newStore();
    store.put(object());
    store.remove(object({ version: '3' }));
    expect(kindsOf(store.put(object({ version: '4' })))).toEqual(['added team-a/alice']);
    // Both pieces of news once more, late.
    expect(store.remove(object({ version: '3' }))).toEqual([]);
    expect(store.get('team-a/alice')).toBe('u1@4');
  });

  it('that is older by its version is no news: a status raises no generation', () => {
    const store = newStore();
    store.put(object({ version: '10' }));
    expect(store.put(object({ version: '9' }))).toEqual([]);
    expect(store.put(object({ uid: 'u0', version: '8' }))).toEqual([]);
    expect(store.get('team-a/alice')).toBe('u1@10');
  });

  it('of versions that are no numbers is told by generation alone', () => {
    const store = newStore();
    store.put(object({ version: 'b' }));
    expect(kindsOf(store.put(object({ version: 'a' })))).toEqual(['changed team-a/alice']);
  });

  it('that cannot be read changes nothing of what was known, and nothing of others', () => {
    const store = new ObjectStore({
      transform: ({ metadata: { resourceVersion } }) => {
        if (resourceVersion === '13') throw new Error('unlucky');
        return resourceVersion;
      },
      onFault,
    });
    store.put(object({ version: '12' }));
    expect(store.put(object({ version: '13' }))).toEqual([]);
    const bad = object({ version: '13' });
    expect(replaceWith(store, [bad, object({ name: 'bob', uid: 'u2' })])).toEqual([
      { kind: 'added', key: 'team-a/bob', object: '1' },
    ]);
    expect(store.get('team-a/alice')).toBe('12');
    expect(store.remove(bad)).toEqual([{ kind: 'gone', key: 'team-a/alice', before: '12', isTombstone: false }]);
    expect(faults).toEqual(['team-a/alice', 'team-a/alice', 'team-a/alice']);
  });

  it('of a deletion that comes late leaves the next one of that name alone', () => {
    const store = newStore();
    store.put(object());
    expect(kindsOf(store.put(object({ uid: 'u2', version: '5' })))).toEqual([
      'gone team-a/alice',
      'added team-a/alice',
    ]);
    expect(store.remove(object({ version: '4' }))).toEqual([]);
    expect(store.get('team-a/alice')).toBe('u2@5');
  });

  it('takes no memory for ever of those who are gone', () => {
    const store = newStore();
    for (let n = 0; n <= 1_024; n++) store.remove(object({ uid: `u${n}` }));
    // The oldest one is forgotten, the newest is not.
    expect(kindsOf(store.put(object({ uid: 'u0' })))).toEqual(['added team-a/alice']);
    expect(store.put(object({ uid: 'u1024' }))).toEqual([]);
  });
});

describe('a list', () => {
  it('tells what is new, what differs and what is gone, and nothing of the rest', () => {
    const store = newStore();
    for (const name of ['same', 'edited', 'gone', 'replaced']) store.put(object({ name, uid: name }));
    const changes = replaceWith(store, [
      object({ name: 'same', uid: 'same' }),
      object({ name: 'edited', uid: 'edited', version: '2' }),
      object({ name: 'replaced', uid: 'other' }),
      object({ name: 'new', uid: 'new' }),
    ]);
    expect(kindsOf(changes).toSorted()).toEqual([
      'added team-a/new',
      'added team-a/replaced',
      'changed team-a/edited',
      'gone team-a/gone',
      'gone team-a/replaced',
    ]);
    expect(changes.filter((change) => change.kind === 'gone').every((change) => change.isTombstone)).toBe(true);
  });

  it('changes nothing before it is complete', () => {
    const store = newStore();
    store.put(object());
    store.replace().add(object({ name: 'bob', uid: 'u2' }));
    expect([...store.values()]).toEqual(['u1@1']);
  });

  it('keeps the very object where nothing changed', () => {
    const store = new ObjectStore({ transform: ({ metadata }) => ({ metadata }), onFault });
    store.put(object());
    const before = store.get('team-a/alice');
    replaceWith(store as unknown as ObjectStore<string>, [object()]);
    expect(store.get('team-a/alice')).toBe(before);
  });

  it('is right about the dead: their database was restored', () => {
    const store = newStore();
    store.put(object({ generation: 9 }));
    store.remove(object({ version: '2' }));
    expect(kindsOf(replaceWith(store, [object()]))).toEqual(['added team-a/alice']);
    expect(kindsOf(store.put(object({ version: '3' })))).toEqual(['changed team-a/alice']);
  });

  it('makes any copy what it says', () => {
    const names = fc.constantFrom('a', 'b', 'c');
    const objects = fc.uniqueArray(
      fc.record({ name: names, uid: fc.constantFrom('u1', 'u2'), version: fc.constantFrom('1', '2') }),
      { selector: ({ name }) => name },
    );
    fc.assert(
      fc.property(objects, objects, (before, after) => {
        const store = newStore();
        const seen = new Map<string, string>();
        for (const list of [before, after]) {
          for (const change of replaceWith(store, list.map(object))) {
            if (change.kind === 'gone') seen.delete(change.key);
            else seen.set(change.key, change.object);
          }
        }
        const wanted = after.map(({ name, uid, version }) => [`team-a/${name}`, `${uid}@${version}`]);
        expect(Object.fromEntries(seen)).toEqual(Object.fromEntries(wanted));
      }),
    );
  });
});
