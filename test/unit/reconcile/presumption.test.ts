import { beforeEach, describe, expect, it } from 'vitest';

import { terminal, transient, unknownOutcome, waiting } from '../../../src/domain/errors.ts';
import type { PluginName } from '../../../src/domain/name.ts';
import type { Observation } from '../../../src/domain/observation.ts';
import { BUILT_IN_PROFILES, type RuntimeProfile } from '../../../src/domain/profile.ts';
import { EMPTY_STATUS } from '../../../src/domain/status.ts';
import type { HostPlace } from '../../../src/ports/plugin-host.ts';
import { beginPass, planPass, type Pass } from '../../../src/reconcile/pass.ts';
import { Presumption } from '../../../src/reconcile/presumption.ts';
import { memoryArtifact } from '../../support/memory-artifact.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';
import { workspaceAt } from '../../support/workspaces.ts';

const NAME = 'a' as PluginName;
const ARTIFACT = memoryArtifact({ 'SKILL.md': 'a\n' });
const NOTHING: Omit<Observation, 'owner'> = { plugins: [], odd: [], journalPending: false };

describe('the presumption that a target is new', () => {
  let presumption: Presumption;
  let stop: AbortController;
  beforeEach(() => {
    presumption = new Presumption();
    stop = new AbortController();
  });

  const passOver = (previous = EMPTY_STATUS, artifact = ARTIFACT): Pass => ({
    ...beginPass(
      { kind: 'found', workspace: workspaceAt({ docker: {} }), status: previous },
      stop.signal,
      new RecordingLogger(),
    ),
    desired: { plugins: [], artifacts: new Map([[artifact.digest, artifact]]) },
  });
  const placeOf = (identity = 'docker:1'): HostPlace => ({
    target: {
      identity,
      description: identity,
      run: () => Promise.reject(new Error('nothing is run')),
      probe: async () => ({ kind: 'blank' }),
    },
    configDir: '/configs',
    profile: BUILT_IN_PROFILES[0] as RuntimeProfile,
  });
  /** Plans from what is presumed, as a pass does, and fails. */
  const failing = (error: Error) => async (attempt: Pass, blank: Observation) => {
    planPass(attempt, blank);
    attempt.history = { planId: 'p', outcome: 'Failed', summary: 'install a failed' };
    attempt.handledApproval = 'p';
    throw error;
  };

  it('is worth a try for trees that are not big, where nothing was ever converged', () => {
    expect(presumption.isWorthTrying(passOver(), placeOf())).toBe(true);
    const nothing = { ...passOver(), desired: { plugins: [], artifacts: new Map() } };
    expect(presumption.isWorthTrying(nothing, placeOf())).toBe(false);
    const big = passOver(EMPTY_STATUS, { ...ARTIFACT, contentBytes: 5 * 1024 * 1024 });
    expect(presumption.isWorthTrying(big, placeOf())).toBe(false);
    const known = passOver({ ...EMPTY_STATUS, converged: { [NAME]: ARTIFACT.digest } });
    expect(presumption.isWorthTrying(known, placeOf())).toBe(false);
  });

  it('holds: what the work found out is in the pass', async () => {
    const pass = passOver();
    const seen: Observation = { ...NOTHING, owner: { uid: 0, gid: 0 }, odd: ['seen at the end'] };
    const done = presumption.attempt(pass, placeOf(), async (attempt, blank) => {
      expect(blank).toEqual({ ...NOTHING, owner: { uid: 0, gid: 0 } });
      attempt.observation = seen;
      attempt.intentional += 1;
      return true;
    });
    expect(await done).toBe(true);
    expect(pass).toMatchObject({ observation: seen, intentional: 1 });
  });

  it('expects the owner that the last look at such a target found', async () => {
    const owner = { uid: 1000, gid: 1001 };
    presumption.learn(passOver(), { ...NOTHING, owner });
    await presumption.attempt(passOver(), placeOf(), async (_attempt, blank) => {
      expect(blank.owner).toEqual(owner);
      return true;
    });
  });

  it('is not tried where the work may not be done now, and may be later', async () => {
    const pass = passOver();
    const untouched = { ...pass };
    const held = async (attempt: Pass, blank: Observation) => {
      planPass(attempt, blank);
      return false;
    };
    expect(await presumption.attempt(pass, placeOf(), held)).toBe(false);
    expect(pass).toEqual(untouched);
    expect(presumption.isWorthTrying(pass, placeOf())).toBe(true);
  });

  it.each([
    transient('TargetMoved', 'plugins is there'),
    terminal('UnsafePath', '. belongs to user 1000'),
    terminal('PermissionDenied', 'no'),
    transient('DiskFull', 'no'),
  ])(
    'is given up where the target answers $reason: nothing of it is left, and that target is not tried again',
    async (error) => {
      const pass = passOver();
      const untouched = { ...pass };
      expect(await presumption.attempt(pass, placeOf(), failing(error))).toBe(false);
      expect(pass).toEqual(untouched);
      expect(presumption.isWorthTrying(passOver(), placeOf())).toBe(false);
      expect(presumption.isWorthTrying(passOver(), placeOf('docker:2'))).toBe(true);
      presumption.forget(pass.key);
      expect(presumption.isWorthTrying(passOver(), placeOf())).toBe(true);
    },
  );

  it.each([
    transient('Unreachable', 'no answer'),
    transient('ExecTimeout', 'killed'),
    waiting('WorkspaceNotRunning', 'stopped', 1),
    unknownOutcome('the connection broke'),
  ])('claims to have seen nothing where the target gave no answer: $reason', async (error) => {
    const pass = passOver();
    await expect(presumption.attempt(pass, placeOf(), failing(error))).rejects.toBe(error);
    expect(pass).toMatchObject({ observation: undefined, planned: undefined });
    expect(pass).toMatchObject({ history: { outcome: 'Failed' }, handledApproval: 'p' });
  });

  it('takes a pass that was ended for no refusal', async () => {
    stop.abort(transient('PassTimeout', 'too long'));
    const attempt = presumption.attempt(passOver(), placeOf(), failing(transient('TargetMoved', 'plugins is there')));
    await expect(attempt).rejects.toMatchObject({ reason: 'PassTimeout' });
  });
});
