import { describe, expect, it } from 'vitest';

import { sha256 } from '../../../src/domain/digest.ts';
import { terminal, transient, unknownOutcome, waiting, type ReconcileError } from '../../../src/domain/errors.ts';
import type { PluginName } from '../../../src/domain/name.ts';
import type { Observation } from '../../../src/domain/observation.ts';
import type { Verdict } from '../../../src/domain/plan.ts';
import { EMPTY_STATUS, type WorkspaceStatus } from '../../../src/domain/status.ts';
import { summarize, type PassFacts } from '../../../src/reconcile/summarize.ts';
import { kstatus } from '../../support/kstatus.ts';

const A = 'a' as PluginName;
const B = 'b' as PluginName;
const DIGEST = sha256('tree');
const NOON = '2026-01-01T12:00:00.000Z';
const ONE = '2026-01-01T13:00:00.000Z';

const C = 'c' as PluginName;

const seen: Observation = {
  owner: { uid: 0, gid: 0 },
  odd: [],
  journalPending: false,
  plugins: [
    { name: A, manifest: { version: '1.2.0' }, present: true, differing: [], listDigest: DIGEST, filesSha256: 'ab' },
  ],
};

const installed: Verdict = { name: A, state: 'Installed', reason: 'Succeeded', message: 'as declared', managed: true };

function failed(error: ReconcileError, name = B): Verdict {
  return { name, state: 'Failed', reason: error.reason, message: error.message, managed: false, error };
}

function facts(over: Partial<PassFacts> = {}): PassFacts {
  return { generation: 3, target: 'ws-alice', declared: [A], desired: [], corrective: 0, intentional: 0, ...over };
}

const good = facts({ found: { observation: seen, verdicts: [installed] } });

function shape(status: WorkspaceStatus): Record<string, string> {
  return Object.fromEntries(status.conditions.map((one) => [one.type, `${one.status} ${one.reason}`]));
}

describe('summarize', () => {
  it('leaves a restart that is due standing while nobody can tell, and not once the runtime is seen to have it', () => {
    const due = summarize(
      EMPTY_STATUS,
      { ...good, activation: { reason: 'RestartDeferred', message: 'three an hour are enough' } },
      NOON,
    );
    expect(shape(due)).toMatchObject({ ActivationPending: 'True RestartDeferred' });
    const away = summarize(due, facts({ error: transient('Unreachable', 'no answer') }), ONE);
    expect(shape(away)).toMatchObject({ Ready: 'Unknown Unreachable', ActivationPending: 'True RestartDeferred' });
    expect(shape(summarize(away, { ...good, activation: null }, ONE))).not.toHaveProperty('ActivationPending');
  });

  const cases: readonly {
    title: string;
    facts: PassFacts;
    conditions: Record<string, string>;
    kstatus: string;
    summary: string;
  }[] = [
    {
      title: 'everything as declared',
      facts: good,
      conditions: { Ready: 'True Succeeded', Reachable: 'True Succeeded' },
      kstatus: 'Current',
      summary: '1/1',
    },
    {
      title: 'one plugin that may still come',
      facts: facts({
        declared: [A, B],
        found: { observation: seen, verdicts: [installed, failed(transient('SourceUnavailable', 'down'))] },
      }),
      conditions: {
        Ready: 'False SourceUnavailable',
        Reconciling: 'True ProgressingWithRetry',
        Reachable: 'True Succeeded',
      },
      kstatus: 'InProgress',
      summary: '1/2',
    },
    {
      title: 'one plugin that needs a person',
      facts: facts({
        declared: [A, B],
        found: { observation: seen, verdicts: [installed, failed(terminal('PluginNotFound', 'no such repo'))] },
      }),
      conditions: { Ready: 'False PluginNotFound', Stalled: 'True PluginNotFound', Reachable: 'True Succeeded' },
      kstatus: 'Failed',
      summary: '1/2',
    },
    {
      title: 'one plugin that needs a person while another is tried again: waiting alone does not make it Ready',
      facts: facts({
        declared: [A, B, C],
        found: {
          observation: seen,
          verdicts: [
            installed,
            failed(transient('SourceUnavailable', 'down'), C),
            failed(terminal('PluginNotFound', 'no such repo')),
          ],
        },
      }),
      conditions: { Ready: 'False PluginNotFound', Stalled: 'True PluginNotFound', Reachable: 'True Succeeded' },
      kstatus: 'Failed',
      summary: '1/3',
    },
    {
      title: 'a declaration that is gone while its target is cleaned',
      facts: facts({ declared: [], deleting: true, found: { observation: { ...seen, plugins: [] }, verdicts: [] } }),
      conditions: { Ready: 'False Deleting', Reconciling: 'True Deleting', Reachable: 'True Succeeded' },
      kstatus: 'InProgress',
      summary: '0/0',
    },
    {
      title: 'a stopped container',
      facts: facts({ error: waiting('WorkspaceNotRunning', 'container ws-alice is stopped', 60_000) }),
      conditions: {
        Ready: 'False WorkspaceNotRunning',
        Reconciling: 'True Progressing',
        Reachable: 'False WorkspaceNotRunning',
      },
      kstatus: 'InProgress',
      summary: '?/1',
    },
    {
      title: 'an engine that does not answer: unknown, not absent',
      facts: facts({ error: transient('Unreachable', 'engine default gave no answer within 10 s') }),
      conditions: {
        Ready: 'Unknown Unreachable',
        Reconciling: 'True ProgressingWithRetry',
        Reachable: 'Unknown Unreachable',
      },
      kstatus: 'InProgress',
      summary: '?/1',
    },
    {
      title: 'a connection that broke in the middle',
      facts: facts({ error: unknownOutcome('the connection broke') }),
      conditions: {
        Ready: 'Unknown OutcomeUnknown',
        Reconciling: 'True ProgressingWithRetry',
        Reachable: 'Unknown OutcomeUnknown',
      },
      kstatus: 'InProgress',
      summary: '?/1',
    },
    {
      title: 'suspended',
      facts: facts({ idle: { reason: 'Suspended', message: 'suspended' } }),
      conditions: { Ready: 'Unknown Suspended', Reachable: 'Unknown Suspended' },
      kstatus: 'InProgress',
      summary: '?/1',
    },
    {
      title: 'drift that is only warned of',
      facts: facts({
        found: {
          observation: seen,
          verdicts: [{ ...installed, state: 'Drifted', reason: 'Drifted', message: 'changed' }],
        },
      }),
      conditions: { Ready: 'True Drifted', Reachable: 'True Succeeded', Drifted: 'True Drifted' },
      kstatus: 'Current',
      summary: '0/1',
    },
  ];
  it.each(cases)('$title', (one) => {
    const status = summarize(EMPTY_STATUS, one.facts, NOON);
    expect(shape(status)).toEqual(one.conditions);
    expect(kstatus(3, false, status)).toBe(one.kstatus);
    expect(status.summary).toBe(one.summary);
  });

  it('moves observedGeneration only when it got somewhere or nothing is left to try', () => {
    const before = summarize(EMPTY_STATUS, good, NOON);
    expect(before.observedGeneration).toBe(3);
    const retrying = summarize(before, facts({ generation: 4, error: transient('Unreachable', 'x') }), ONE);
    expect(retrying.observedGeneration).toBe(3);
    expect(retrying.conditions.every((one) => one.observedGeneration === 4)).toBe(true);
    expect(
      summarize(before, facts({ generation: 4, error: terminal('UnknownRuntime', 'x') }), ONE).observedGeneration,
    ).toBe(4);
  });

  it('says since when: times move with the state and with nothing else', () => {
    const first = summarize(EMPTY_STATUS, good, NOON);
    const again = summarize(first, good, ONE);
    expect(again).toEqual(first);
    const stopped = summarize(first, facts({ error: waiting('WorkspaceNotRunning', 'stopped', 1) }), ONE);
    expect(stopped.conditions.find((one) => one.type === 'Ready')?.lastTransitionTime).toBe(ONE);
    expect(stopped.plugins).toMatchObject([{ name: A, state: 'Unknown', since: ONE }]);
  });

  it('shows what it could not see as unknown, and remembers what was converged', () => {
    const first = summarize(EMPTY_STATUS, good, NOON);
    expect(first.plugins).toMatchObject([{ state: 'Installed', digest: DIGEST, version: '1.2.0', managed: true }]);
    const blind = summarize(first, facts({ error: transient('Unreachable', 'x') }), ONE);
    expect(blind.plugins).toMatchObject([{ state: 'Unknown', managed: true }]);
    expect(blind.plugins[0]?.digest).toBeUndefined();
    expect(blind.converged).toEqual({ a: DIGEST });
    expect(summarize(blind, facts({ declared: [] }), ONE).converged).toEqual({ a: DIGEST });
  });

  it('remembers what was declared until a look shows that it is gone, also from where it was before', () => {
    const first = summarize(EMPTY_STATUS, good, NOON);
    const found = good.found && { ...good.found, verdicts: [] };
    const leftBehind = [{ place: 'directory /old', reason: 'PruneHeld', message: 'waits' } as const];
    expect(summarize(first, { ...good, declared: [], found, leftBehind }, ONE).converged).toEqual({ a: DIGEST });
    expect(summarize(first, { ...good, declared: [], found }, ONE).converged).toEqual({});
  });

  it('names the plugin that needs a person first, and says that the rest goes on being tried', () => {
    const verdicts = [
      failed(transient('SourceUnavailable', 'down'), C),
      failed(terminal('PluginNotFound', 'plugin b: no such repo')),
    ];
    const status = summarize(EMPTY_STATUS, facts({ found: { observation: seen, verdicts } }), NOON);
    const expected = 'needs a person: plugin b: no such repo; tried again meanwhile: c';
    expect(status.conditions.find((one) => one.type === 'Ready')?.message).toBe(expected);
    expect(status.plugins).toMatchObject([
      { name: C, reason: 'SourceUnavailable' },
      { name: B, stalled: true },
    ]);
    expect(status.plugins[0]?.stalled).toBeUndefined();
  });

  it('is as Stalled as before while a plugin that is tried again comes and goes', () => {
    const broken = failed(terminal('PluginNotFound', 'no such repo'));
    const alone = summarize(EMPTY_STATUS, facts({ found: { observation: seen, verdicts: [broken] } }), NOON);
    const verdicts = [failed(transient('SourceUnavailable', 'down'), C), broken];
    const mixed = summarize(alone, facts({ found: { observation: seen, verdicts } }), ONE);
    expect(shape(mixed)).toEqual(shape(alone));
    expect(mixed.conditions.every((one) => one.lastTransitionTime === NOON)).toBe(true);
  });

  it.each([
    ['stopped', facts({ error: waiting('WorkspaceNotRunning', 'stopped', 1), lastLookAt: ONE })],
    ['suspended', facts({ idle: { reason: 'Suspended', message: 'suspended' }, lastLookAt: ONE })],
  ])('keeps showing the last known revision of a %s workspace, marked as of when', (_, blind) => {
    const receipt = { revision: 'r1' } as NonNullable<Observation['plugins'][number]['receipt']>;
    const observation = { ...seen, plugins: seen.plugins.map((plugin) => ({ ...plugin, receipt })) };
    const looked = summarize(EMPTY_STATUS, facts({ found: { observation, verdicts: [installed] } }), NOON);
    expect(looked.plugins[0]).toMatchObject({ revision: 'r1' });
    expect(looked.plugins[0]?.seenAt).toBeUndefined();
    const expected = [{ state: 'Unknown', revision: 'r1', version: '1.2.0', seenAt: ONE }];
    const first = summarize(looked, blind, '2026-01-01T13:00:30.000Z');
    expect(first.plugins).toMatchObject(expected);
    expect(summarize(first, { ...blind, lastLookAt: undefined }, '2026-01-02T00:00:00.000Z').plugins).toEqual(
      first.plugins,
    );
    // Of a process that has not looked yet, the row itself says when it was true.
    const forgetful = { ...blind, lastLookAt: undefined };
    expect(summarize(looked, forgetful, ONE).plugins).toMatchObject([{ seenAt: NOON }]);
    const entry = { planId: 'p', outcome: 'Succeeded', summary: '', firstAt: NOON, lastAt: ONE, times: 1 } as const;
    const updated = { ...looked, history: [entry] };
    expect(summarize(updated, forgetful, '2026-01-01T14:00:00.000Z').plugins).toMatchObject([{ seenAt: ONE }]);
  });

  it('stores nothing that a terminal would obey, wherever it comes from', () => {
    const evil = '\u001b[2J\u001b]0;x\u0007\u202e\r\nok';
    const receipt = { revision: evil, source: evil } as NonNullable<Observation['plugins'][number]['receipt']>;
    const observation: Observation = {
      ...seen,
      odd: [evil],
      plugins: [{ name: A, manifest: { version: evil }, present: true, differing: [], receipt }],
    };
    const verdicts = [failed(terminal('NameTaken', evil), A)];
    const history = { planId: 'p', outcome: 'Failed' as const, summary: evil };
    const hold = { reason: 'Paused' as const, message: evil, changes: [evil] };
    const all = facts({ target: evil, found: { observation, verdicts }, history, hold });
    const status = summarize(EMPTY_STATUS, all, NOON);
    const blind = summarize(status, facts({ target: evil, error: transient('Unreachable', evil) }), ONE);
    for (const text of [JSON.stringify(status), JSON.stringify(blind)]) {
      expect(text).toContain('ok');
      expect(text).not.toMatch(/\\[urnbt]|[\p{Cc}\u202e]/u);
    }
  });

  it('names what lies under plugins/ and is none', () => {
    const odd = facts({ found: { observation: { ...seen, odd: ['Read Me.txt'] }, verdicts: [installed] } });
    const reachable = summarize(EMPTY_STATUS, odd, NOON).conditions.find((one) => one.type === 'Reachable');
    expect(reachable?.message).toContain('Read Me.txt');
  });

  it('keeps five entries of history and folds equal neighbours', () => {
    const ran = (planId: string) => ({
      ...good,
      history: { planId, outcome: 'Succeeded' as const, summary: 'install a' },
    });
    let status = summarize(EMPTY_STATUS, ran('p0'), NOON);
    status = summarize(status, ran('p0'), ONE);
    expect(status.history).toEqual([
      { planId: 'p0', outcome: 'Succeeded', summary: 'install a', firstAt: NOON, lastAt: ONE, times: 2 },
    ]);
    for (const id of ['p1', 'p2', 'p3', 'p4', 'p5']) status = summarize(status, ran(id), ONE);
    expect(status.history.map((entry) => entry.planId)).toEqual(['p5', 'p4', 'p3', 'p2', 'p1']);
  });

  it('folds no takeover into the finish of an interrupted change, though both are the empty plan', () => {
    const ran = (summary: string) => ({ ...good, history: { planId: 'p0', outcome: 'Succeeded' as const, summary } });
    const first = summarize(EMPTY_STATUS, ran('took the target over from them'), NOON);
    const { history } = summarize(first, ran('finished an interrupted change'), ONE);
    expect(history.map(({ summary, times }) => [summary, times])).toEqual([
      ['finished an interrupted change', 1],
      ['took the target over from them', 1],
    ]);
  });

  it('cuts long messages, since one over the limit of the API server would fail every status write', () => {
    const status = summarize(EMPTY_STATUS, facts({ error: terminal('InvalidSpec', 'x'.repeat(50_000)) }), NOON);
    for (const condition of status.conditions) expect(condition.message.length).toBeLessThanOrEqual(1024);
  });
});
