import { describe, expect, it } from 'vitest';

import {
  activationSchema,
  afterFailure,
  afterReload,
  afterSuccess,
  beforeRestart,
  DEFAULT_ACTIVATION,
  NO_ACTIVATION,
  nextStep,
  revivalStep,
  settleActivation,
  type ActivationRecord,
  type ActivationStep,
  type RuntimeFacts,
  withChange,
  withProof,
  withPurpose,
} from '../../../src/domain/activation.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

/** One workspace over time: changes and starts come as the test says, restarts as the rules say. */
class Life {
  nowMs = 10 * HOUR;
  /** By the clock of the engine. */
  startedAtMs = 0;
  /** By how much that clock is ahead of the controller's. */
  skewMs = 0;
  identity = 'container-1';
  place = 'place-1';
  /** What was delivered is there. */
  isWhole = true;
  bootMs = MINUTE;
  wouldLose: string | undefined;
  /** What the command of its profile says. */
  isUnready: boolean | undefined;
  record: ActivationRecord = NO_ACTIVATION;
  readonly restartsMs: number[] = [];

  get runtime(): RuntimeFacts {
    const bootedAtMs = this.startedAtMs - this.skewMs + this.bootMs;
    const { identity, place, startedAtMs, wouldLose, isUnready } = this;
    const isBooting = this.nowMs < bootedAtMs || (isUnready === true && this.nowMs < bootedAtMs + 15 * MINUTE);
    return { identity, place, startedAtMs, isBooting, isUnready, bootedAtMs, wouldLose };
  }

  /** Something was changed on the target. */
  change(isCorrective = false, planId = 'p'): void {
    this.record = withChange(this.record, this, { planId, summary: 'install a', isCorrective }, this.nowMs);
  }

  /** What was installed is gone, and is brought back by the next pass. */
  lose(): void {
    this.isWhole = false;
  }

  /** A pass of a controller that may have been started a moment ago: the record comes out of the store. */
  pass(restart: 'IfNeeded' | 'Never' = 'IfNeeded'): ActivationStep {
    const stored = activationSchema.parse(JSON.parse(JSON.stringify(this.record)));
    this.record = this.isWhole ? withProof(stored, this.place) : stored;
    const wasIntact = this.isWhole;
    if (!wasIntact) this.change(true);
    this.isWhole = true;
    this.record = settleActivation(this.record, this.runtime, wasIntact, this.nowMs);
    const step = nextStep(this.record, this.runtime, restart, DEFAULT_ACTIVATION, this.nowMs);
    if (step.kind === 'restart') {
      this.record = beforeRestart(this.record, this.runtime, this.nowMs);
      this.restartsMs.push(this.nowMs);
    }
    return step;
  }

  /** Passes every second for so long; a restart takes a moment. */
  live(ms: number, each: () => void = () => undefined): void {
    for (const endMs = this.nowMs + ms; this.nowMs < endMs; this.nowMs += SECOND) {
      each();
      if (this.pass().kind !== 'restart') continue;
      this.start();
      this.record = afterSuccess(this.record);
      this.afterRestart();
    }
  }

  afterRestart = (): void => undefined;

  start(): void {
    this.nowMs += SECOND;
    this.startedAtMs = this.nowMs + this.skewMs;
  }
}

describe('activation by restart', () => {
  it('I-45: is one restart for 17 changes within a minute, and no later than two minutes after the first', () => {
    const life = new Life();
    let changes = 0;
    life.live(MINUTE, () => {
      if (changes * 3.5 * SECOND > life.nowMs - 10 * HOUR || changes === 17) return;
      changes++;
      life.change();
    });
    expect(changes).toBe(17);
    expect(life.restartsMs).toEqual([]);
    life.live(HOUR);
    expect(life.restartsMs).toHaveLength(1);
    expect(life.restartsMs[0]).toBeLessThanOrEqual(10 * HOUR + 2 * MINUTE);
  });

  it('is a reload where that is enough, whatever the policy, and a restart for what came beside it or where it fails', () => {
    const reload = { planId: 'p', summary: 'replace a', isCorrective: false, kind: 'reload' } as const;
    const life = new Life();
    const change = (): void => {
      life.record = withChange(life.record, life, reload, life.nowMs);
    };
    life.start();
    change();
    expect(life.pass('Never')).toMatchObject({ kind: 'wait', reason: 'RestartPending' });
    life.nowMs += HOUR;
    expect(life.pass('Never')).toEqual({ kind: 'reload' });
    life.record = afterReload(life.record, true);
    expect(life.pass()).toEqual({ kind: 'none' });
    change();
    life.record = afterReload(life.record, false);
    life.nowMs += HOUR;
    expect(life.pass()).toEqual({ kind: 'restart' });
    life.start();
    expect(life.pass()).toEqual({ kind: 'none' });
    life.change();
    change();
    life.nowMs += HOUR;
    expect(life.pass()).toEqual({ kind: 'restart' });
  });

  it('I-18: where nobody may restart it, it waits until somebody asks, and is restarted once for each time', () => {
    const life = new Life();
    life.change();
    life.nowMs += HOUR;
    expect(life.pass('Never')).toMatchObject({ kind: 'never', reason: 'RestartNever' });
    const ask = (token: string): void => {
      life.record = withPurpose(life.record, token);
    };
    ask('first');
    expect(life.pass('Never')).toEqual({ kind: 'restart' });
    life.start();
    life.record = afterSuccess(life.record);
    for (let time = 0; time < 10; time++) {
      ask('first');
      expect(life.pass('Never')).toEqual({ kind: 'none' });
      life.nowMs += HOUR;
    }
    ask('second');
    expect(life.pass('Never')).toEqual({ kind: 'restart' });
  });

  it('is no restart that somebody asks for while it starts, or where it would lose what is there', () => {
    const life = new Life();
    life.nowMs += HOUR;
    life.record = withPurpose(life.record, 'asked');
    life.wouldLose = 'it is in memory';
    expect(life.pass()).toMatchObject({ kind: 'never', reason: 'NotDurable' });
    life.wouldLose = undefined;
    life.start();
    expect(life.pass()).toMatchObject({ kind: 'wait', reason: 'RestartPending' });
    life.nowMs += HOUR;
    expect(life.pass()).toEqual({ kind: 'restart' });
  });

  it('I-39: a restart is over when the runtime says itself that it has started whole, and is told as failed where it never does', () => {
    const life = new Life();
    life.afterRestart = () => {
      life.isUnready = true;
    };
    life.change();
    life.live(2 * MINUTE);
    expect(life.restartsMs).toHaveLength(1);
    expect(life.pass()).toMatchObject({
      kind: 'wait',
      reason: 'RestartPending',
      message: expect.stringContaining('started whole') as string,
    });
    life.live(14 * MINUTE);
    expect(life.pass()).toMatchObject({ kind: 'wait', reason: 'RestartFailed' });
    expect(life.restartsMs).toHaveLength(1);
    life.isUnready = false;
    expect(life.pass()).toEqual({ kind: 'none' });
  });

  it('comes for a later change too where a runtime never says that it has started whole', () => {
    const life = new Life();
    life.afterRestart = () => {
      life.isUnready = true;
    };
    life.change();
    life.live(2 * MINUTE);
    life.change();
    life.live(5 * MINUTE);
    expect(life.restartsMs).toHaveLength(1);
    life.live(15 * MINUTE);
    expect(life.restartsMs).toHaveLength(2);
  });

  it('is one restart after a quiet moment, however many changes there were', () => {
    const life = new Life();
    for (let change = 0; change < 5; change++) {
      life.change();
      life.live(5 * SECOND);
    }
    expect(life.restartsMs).toEqual([]);
    life.live(HOUR);
    expect(life.restartsMs).toHaveLength(1);
    expect(life.restartsMs[0]).toBe(10 * HOUR + 20 * SECOND + 15 * SECOND);
  });

  it('comes after two minutes though changes go on', () => {
    const life = new Life();
    life.live(3 * MINUTE, () => life.change());
    expect(life.restartsMs[0]).toBe(10 * HOUR + 2 * MINUTE);
  });

  it('needs none where nothing was changed, or where the runtime has started since', () => {
    const life = new Life();
    life.live(HOUR);
    life.change();
    life.start();
    life.live(HOUR);
    expect(life.restartsMs).toEqual([]);
    expect(life.record.pending).toBeUndefined();
  });

  it('I-10: is not repeated while the runtime starts, whatever fires more often than it takes to start', () => {
    const life = new Life();
    const startsMs: number[] = [];
    life.afterRestart = () => void startsMs.push(life.nowMs);
    // The runtime is up after a minute; something is changed every 18 seconds.
    for (let round = 0; round < 10; round++) {
      life.change(false, `p${round}`);
      life.live(18 * SECOND);
    }
    expect(startsMs.length).toBeGreaterThan(1);
    const gaps = startsMs.slice(1).map((atMs, n) => atMs - (startsMs[n] ?? 0));
    for (const gap of gaps) expect(gap).toBeGreaterThanOrEqual(life.bootMs);
  });

  it('waits while the runtime starts', () => {
    const life = new Life();
    life.startedAtMs = life.nowMs - 10 * SECOND;
    life.change();
    life.live(20 * SECOND);
    expect(life.pass()).toMatchObject({ kind: 'wait', reason: 'RestartPending', atMs: life.startedAtMs + MINUTE });
    life.live(HOUR);
    expect(life.restartsMs).toHaveLength(1);
  });

  it('is no more than three in an hour, whatever changes and however often the controller starts', () => {
    const life = new Life();
    life.live(3 * HOUR, () => life.change());
    for (const startMs of life.restartsMs) {
      const within = life.restartsMs.filter((atMs) => atMs >= startMs && atMs < startMs + HOUR);
      expect(within.length).toBeLessThanOrEqual(3);
    }
    expect(life.restartsMs.length).toBeGreaterThanOrEqual(8);
  });

  it('says until when it waits for room', () => {
    const life = new Life();
    life.record = { restartsMs: [life.nowMs - 50 * MINUTE, life.nowMs - MINUTE, life.nowMs - 2 * MINUTE] };
    life.change();
    life.nowMs += MINUTE;
    expect(life.pass()).toMatchObject({ kind: 'wait', reason: 'RestartDeferred', atMs: 10 * HOUR + 10 * MINUTE });
  });

  it('I-19: is not asked for a second time while one is under way, and again when that came to nothing', () => {
    const life = new Life();
    life.change();
    life.live(15 * SECOND);
    expect(life.pass().kind).toBe('restart');
    for (let pass = 0; pass < 10; pass++) {
      life.nowMs += 10 * SECOND;
      expect(life.pass()).toMatchObject({ kind: 'wait', reason: 'RestartPending' });
    }
    life.nowMs += 2 * MINUTE;
    expect(life.pass().kind).toBe('restart');
  });

  it('that failed is said to have failed, until it is tried again', () => {
    const life = new Life();
    life.change();
    life.live(15 * SECOND);
    expect(life.pass().kind).toBe('restart');
    life.record = afterFailure(life.record, 'the engine could not');
    life.nowMs += 10 * SECOND;
    expect(life.pass()).toMatchObject({ kind: 'wait', reason: 'RestartFailed', message: 'the engine could not' });
    life.nowMs += 3 * MINUTE;
    expect(life.pass().kind).toBe('restart');
  });

  it('is never done where policy says so, or where it would lose what was delivered', () => {
    const life = new Life();
    life.change();
    life.nowMs += MINUTE;
    expect(life.pass('Never')).toMatchObject({ kind: 'never', reason: 'RestartNever' });
    life.wouldLose = 'the config directory is on a tmpfs';
    expect(life.pass()).toMatchObject({ kind: 'never', reason: 'NotDurable' });
    life.live(HOUR);
    expect(life.restartsMs).toEqual([]);
  });

  it('I-09: is not repeated where a restart has lost what was installed', () => {
    const life = new Life();
    life.afterRestart = () => life.lose();
    life.change();
    life.live(6 * HOUR);
    expect(life.restartsMs).toHaveLength(1);
    expect(life.pass()).toMatchObject({ kind: 'never', reason: 'NotDurable' });
    // Another container is another chance.
    life.afterRestart = () => undefined;
    life.identity = 'container-2';
    life.start();
    life.live(2 * MINUTE);
    life.change();
    life.live(HOUR);
    expect(life.restartsMs).toHaveLength(2);
  });

  it('I-09: is not repeated where somebody puts another, empty container in the place of the restarted one', () => {
    const life = new Life();
    let containers = 1;
    const replace = (): void => {
      life.identity = `container-${++containers}`;
      life.start();
      life.lose();
    };
    life.afterRestart = replace;
    life.change();
    life.live(6 * HOUR);
    expect(life.restartsMs).toHaveLength(1);
    expect(life.pass()).toMatchObject({ kind: 'never', reason: 'NotDurable' });
  });

  it('I-09: is not repeated where the container is replaced before any look at the restarted one', () => {
    const life = new Life();
    life.change();
    life.live(15 * SECOND);
    expect(life.pass().kind).toBe('restart');
    life.start();
    // Seen to have come back, by a look that may have been made before it.
    life.pass();
    expect(life.record.unproven).toBeDefined();
    life.identity = 'container-2';
    life.start();
    life.lose();
    life.live(HOUR);
    expect(life.restartsMs).toHaveLength(1);
    expect(life.record.lostOn).toBe('container-2');
  });

  it.each([SECOND, 5 * MINUTE, HOUR])(
    'is done for a hand that edits %d ms after a restart has kept everything',
    (ms) => {
      const life = new Life();
      life.change();
      life.live(16 * SECOND);
      expect(life.restartsMs).toHaveLength(1);
      life.live(ms);
      life.lose();
      life.live(2 * HOUR);
      expect(life.restartsMs).toHaveLength(2);
      expect(life.record.lostOn).toBeUndefined();
      expect(life.record.pending).toBeUndefined();
    },
  );

  it('is done where the workspace has moved to another container since the restart of the old one', () => {
    const life = new Life();
    life.change();
    life.live(15 * SECOND);
    expect(life.pass().kind).toBe('restart');
    life.nowMs += 11 * SECOND;
    // The plugins of a workspace are brought back there: a new place is no new declaration of theirs.
    life.identity = 'container-2';
    life.place = 'place-2';
    life.startedAtMs = 5;
    life.lose();
    life.live(HOUR);
    expect(life.record.lostOn).toBeUndefined();
    expect(life.restartsMs).toHaveLength(2);
  });

  it('that was begun by a controller that died is seen to its end by the next one', () => {
    const life = new Life();
    life.change();
    life.live(15 * SECOND);
    expect(life.pass().kind).toBe('restart');
    life.start();
    expect(life.pass()).toEqual({ kind: 'none' });
    expect(life.record).toMatchObject({
      restartsMs: [expect.any(Number)],
      // The look of that pass may have been made before the restart.
      unproven: { startedAtMs: life.startedAtMs, identity: life.identity },
    });
    expect(life.record.begun).toBeUndefined();
    life.pass();
    expect(life.record.unproven).toBeUndefined();
  });

  it.each([-10 * MINUTE, 10 * MINUTE])('is one restart where the clock of the engine is %d ms ahead', (skewMs) => {
    const life = new Life();
    life.skewMs = skewMs;
    life.nowMs -= 2 * MINUTE;
    life.start();
    life.live(2 * MINUTE);
    life.change();
    life.live(3 * HOUR);
    expect(life.restartsMs).toHaveLength(1);
    expect(life.record.pending).toBeUndefined();
  });

  it('is done for edits that are undone long after a restart of ours', () => {
    const life = new Life();
    life.change();
    life.live(5 * HOUR);
    life.lose();
    life.live(5 * HOUR);
    expect(life.restartsMs).toHaveLength(2);
    expect(life.record.lostOn).toBeUndefined();
  });

  it('waits for nothing that a clock has told which was years ahead', () => {
    const life = new Life();
    const nowMs = life.nowMs;
    life.nowMs += 10_000 * HOUR;
    life.record = { restartsMs: [life.nowMs, life.nowMs, life.nowMs] };
    life.change();
    life.nowMs = nowMs;
    life.live(2 * HOUR);
    expect(life.restartsMs).toHaveLength(1);
  });
});

describe('the breaker', () => {
  const HOURS = [0, 1, 2, 3, 4, 5];
  /** Undone once an hour, long after any restart could have done it. */
  const undo = (life: Life, planId = 'p'): ActivationStep => {
    life.live(HOUR);
    life.change(true, planId);
    life.live(MINUTE);
    return life.pass();
  };

  it('opens after three restarts for one correction that is undone each time, and closes after a day', () => {
    const life = new Life();
    const steps = HOURS.map(() => undo(life));
    expect(life.restartsMs).toHaveLength(3);
    const [first = 0] = life.restartsMs;
    expect(steps.at(-1)).toMatchObject({ kind: 'wait', reason: 'RestartRepeated', atMs: first + 24 * HOUR });
    expect(steps.at(-1)).toMatchObject({ message: expect.stringMatching(/; it is restarted at 1970-01-02T[\d:]+Z$/) });
    life.live(first + 24 * HOUR + MINUTE - life.nowMs);
    expect(life.restartsMs).toHaveLength(4);
    life.live(HOUR);
    expect(life.record.pending, 'what a person restarts is taken up').toBeUndefined();
  });

  it('stays closed where each correction is of another state, and where people change something in between', () => {
    const life = new Life();
    for (const hour of HOURS) undo(life, `p${hour}`);
    expect(life.restartsMs).toHaveLength(6);
    const edited = new Life();
    for (const hour of HOURS) {
      if (hour % 3 === 2) {
        edited.change(false, 'edit');
        edited.live(MINUTE);
      }
      undo(edited);
    }
    expect(edited.restartsMs).toHaveLength(8);
  });

  it('holds nothing back that people ask for while it is open', () => {
    const life = new Life();
    for (let hour = 0; hour < 4; hour++) undo(life);
    expect(life.restartsMs).toHaveLength(3);
    life.change(false, 'edit');
    life.live(MINUTE);
    expect(life.restartsMs).toHaveLength(4);
  });
});

describe('a target that does not run', () => {
  const limits = { quietMs: SECOND, patienceMs: MINUTE, perHour: 2 };
  const atMs = 10 * HOUR;
  const here = { identity: 'container-1', place: 'place-1', startedAtMs: 1 };
  const begun = beforeRestart(NO_ACTIVATION, here, atMs);
  const failed = afterFailure(begun, 'the engine said no');

  it.each([
    ['was never restarted by us', NO_ACTIVATION, 1, atMs, undefined],
    ['has been started since, and was stopped by somebody else', failed, 2, atMs + HOUR, undefined],
    ['is being restarted', begun, 1, atMs + MINUTE, { kind: 'wait', reason: 'RestartPending' }],
    ['was being restarted when nobody heard of it again', begun, 1, atMs + 4 * MINUTE, { kind: 'restart' }],
    ['was stopped by a restart just now', failed, 1, atMs + SECOND, { kind: 'wait', atMs: atMs + MINUTE }],
    ['was stopped by a restart a while ago', failed, 1, atMs + MINUTE, { kind: 'restart' }],
  ] as const)('%s', (_, record, startedAtMs, nowMs, step) => {
    if (step === undefined) expect(revivalStep(record, startedAtMs, limits, nowMs)).toBeUndefined();
    else expect(revivalStep(record, startedAtMs, limits, nowMs)).toMatchObject(step);
  });

  it('is not started more often than it may be restarted', () => {
    const again = afterFailure(beforeRestart(failed, here, atMs + MINUTE), 'no');
    expect(revivalStep(again, 1, limits, atMs + 3 * MINUTE)).toMatchObject({
      kind: 'wait',
      reason: 'RestartFailed',
      message: expect.stringContaining('no more than 2 times within an hour'),
      atMs: atMs + HOUR,
    });
    expect(revivalStep(again, 1, limits, atMs + HOUR)).toMatchObject({ kind: 'restart' });
  });
});
