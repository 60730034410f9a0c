import { beforeEach, describe, expect, it } from 'vitest';

import { waiting } from '../../../src/domain/errors.ts';
import type { WorkspaceKey } from '../../../src/domain/name.ts';
import { EMPTY_STATUS } from '../../../src/domain/status.ts';
import type { Workspace } from '../../../src/domain/workspace.ts';
import type { WorkspaceStore } from '../../../src/ports/workspace-store.ts';
import type { TargetProvider, WorkspaceTarget } from '../../../src/ports/workspace-target.ts';
import { Claims } from '../../../src/reconcile/claims.ts';
import { TargetIndex } from '../../../src/reconcile/target-index.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';
import { recordingMetrics } from '../../support/recording-metrics.ts';
import { workspaceAt } from '../../support/workspaces.ts';

const NEVER = new AbortController().signal;
const ALICE = workspaceAt({ pod: { name: 'agent' } }, { name: 'alice' });
const BOB = workspaceAt({ pod: { selector: { app: 'agent' } } }, { name: 'bob' });
const DECLARED = new Map<WorkspaceKey, Workspace>([ALICE, BOB].map((workspace) => [workspace.key, workspace]));

const pod = (identity: string): WorkspaceTarget => ({
  identity,
  description: identity,
  addresses: () => ['name:agent', 'app=agent'],
  run: async () => await Promise.reject(new Error('nothing is run')),
  probe: async () => ({ kind: 'unsupported' }),
});

/** What is found for each. */
let found: Map<WorkspaceKey, WorkspaceTarget>;
let located: number;
let released: WorkspaceKey[];
let claims: Claims;

beforeEach(async () => {
  found = new Map();
  located = 0;
  released = [];
  const provider: TargetProvider = {
    kind: 'pod',
    addresses: ({ target }) => ['pod' in target && target.pod.name !== undefined ? 'name:agent' : 'app=agent'],
    lane: () => 'pod',
    locate: async ({ key }) => {
      located += 1;
      const target = found.get(key);
      if (target === undefined) throw waiting('WorkspaceNotFound', `${key} has no pod`, 1_000);
      return target;
    },
    close: async () => undefined,
  };
  const store: Pick<WorkspaceStore, 'get' | 'declarations'> = {
    get: async (key) => {
      const workspace = DECLARED.get(key);
      return workspace === undefined
        ? { kind: 'absent' }
        : { kind: 'found', workspace, deleting: false, status: EMPTY_STATUS };
    },
    declarations: async () => DECLARED,
  };
  claims = new Claims({
    store: store as WorkspaceStore,
    providers: [provider],
    index: new TargetIndex(),
    metrics: recordingMetrics(),
    logger: new RecordingLogger(),
    onReleased: (keys) => void released.push(...keys),
  });
  await claims.introduceAll([...DECLARED.keys()], NEVER);
});

describe('claims by different addresses', () => {
  it('are seen before the first of them acts', async () => {
    for (const { key } of [ALICE, BOB]) found.set(key, pod('one'));
    claims.identify(ALICE.key, pod('one'));
    expect(await claims.rivalsOf(ALICE.key, NEVER)).toEqual([BOB.key]);
    expect(await claims.rivalsOf(BOB.key, NEVER)).toEqual([ALICE.key]);
  });

  it('are seen again when another takes the place of their target', async () => {
    for (const { key } of [ALICE, BOB]) claims.identify(key, pod('one'));
    for (const { key } of [ALICE, BOB]) found.set(key, pod('another'));
    claims.identify(ALICE.key, pod('another'));
    expect(await claims.rivalsOf(ALICE.key, NEVER)).toEqual([BOB.key]);
  });

  it('end, and wake who waited, when a pass of one of them finds another target', async () => {
    for (const { key } of [ALICE, BOB]) claims.identify(key, pod('one'));
    claims.identify(BOB.key, { ...pod('another'), addresses: () => ['name:other', 'app=agent'] });
    expect(released).toEqual([ALICE.key]);
    found.set(BOB.key, pod('another'));
    expect(await claims.rivalsOf(ALICE.key, NEVER)).toEqual([]);
  });

  it('cost no question once they are known, however often somebody waits for their end', async () => {
    for (const { key } of [ALICE, BOB]) claims.identify(key, pod('one'));
    found.clear();
    expect(await claims.rivalsOf(ALICE.key, NEVER)).toEqual([BOB.key]);
    expect(located).toBe(0);
  });

  it('are none of who means no target now', async () => {
    claims.identify(ALICE.key, pod('one'));
    expect(await claims.rivalsOf(ALICE.key, NEVER)).toEqual([]);
  });
});
