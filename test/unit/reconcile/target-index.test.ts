import { describe, expect, it } from 'vitest';

import { workspaceKey } from '../../../src/domain/name.ts';
import { TargetIndex } from '../../../src/reconcile/target-index.ts';

const ALICE = workspaceKey('team-a', 'alice');
const BOB = workspaceKey('team-a', 'bob');
const DOCKER = { usual: 'docker:default', slow: 'docker:default:slow' };
const LANES = { usual: 'lane', slow: 'lane:slow' };

describe('TargetIndex', () => {
  it('finds whom an event concerns, by any of its addresses', () => {
    const index = new TargetIndex();
    index.declare(ALICE, ['docker:default:label:team-a/alice', 'docker:default:name:ws-alice'], DOCKER);
    expect(index.keysOf('docker:default:name:ws-alice')).toEqual([ALICE]);
    expect(index.keysOf('docker:default:name:ws-bob')).toEqual([]);
    expect(index.lanesOf(ALICE)).toBe(DOCKER);
    expect(index.lanesOf(BOB)).toBeUndefined();
  });

  it('sees two claims by what was found behind their addresses', () => {
    const index = new TargetIndex();
    index.declare(ALICE, ['label:alice'], LANES);
    index.declare(BOB, ['name:ws-alice'], LANES);
    expect(index.rivalsOf(ALICE)).toEqual([]);
    index.identify(ALICE, 'container 4f2a');
    expect(index.rivalsOf(ALICE)).toEqual([]);
    index.identify(BOB, 'container 4f2a');
    expect(index.rivalsOf(ALICE)).toEqual([BOB]);
    index.identify(BOB, 'container 77aa');
    expect(index.rivalsOf(ALICE)).toEqual([]);
  });

  it('an address alone is no claim: two namespaces may each have an alice', () => {
    const index = new TargetIndex();
    index.declare(ALICE, ['name:ws-alice'], LANES);
    index.declare(BOB, ['name:ws-alice'], LANES);
    expect(index.rivalsOf(ALICE)).toEqual([]);
    expect(index.neighboursOf(ALICE)).toEqual([BOB]);
    index.identify(BOB, 'container 77aa');
    expect(index.neighboursOf(ALICE)).toEqual([]);
  });

  it('forgets everything of a workspace that moved or went', () => {
    const index = new TargetIndex();
    index.declare(ALICE, ['dir:/a'], LANES);
    index.identify(ALICE, 'inode 1');
    index.declare(ALICE, ['dir:/b'], LANES);
    expect(index.keysOf('dir:/a')).toEqual([]);
    expect(index.keysOf('inode 1')).toEqual([]);
    index.forget(ALICE);
    expect(index.keysOf('dir:/b')).toEqual([]);
    expect(index.keys()).toEqual([]);
  });
});
