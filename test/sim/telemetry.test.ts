import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { terminal, transient, waiting, type ReconcileError } from '../../src/domain/errors.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import { labelValues } from '../support/exposition.ts';
import { COMMIT, SimulatedFleet } from '../support/simulated-fleet.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

let fleet: SimulatedFleet;
beforeEach(() => {
  fleet = new SimulatedFleet();
});

describe('the log of a daemon', () => {
  afterEach(() => fleet.stop());

  const FLEET = 50;
  const notRunning = (): ReconcileError => waiting('WorkspaceNotRunning', 'the container does not run', MINUTE);

  it('over an hour of fifty workspaces that wait: each is told once, with its key, the reason and what to do', async () => {
    for (let n = 0; n < FLEET; n++) {
      fleet.declare(`w${n}`);
      fleet.problems.set(`w${n}`, notRunning);
    }
    fleet.lead();
    await fleet.clock.advance(2 * MINUTE);
    const early = fleet.told().length;
    expect(early).toBeLessThanOrEqual(FLEET);
    for (let n = 0; n < FLEET; n++) {
      const lines = fleet.told().filter(({ fields }) => [fields['key'], fields['workspace']].includes(`default/w${n}`));
      expect(lines).toHaveLength(1);
      for (const { level, fields } of lines)
        expect([level, fields['reason'], fields['help']]).toEqual([
          'info',
          'WorkspaceNotRunning',
          'Start the workspace.',
        ]);
    }
    await fleet.clock.advance(HOUR);
    expect(
      (await fleet.samples('controller_runtime_reconcile_time_seconds_count'))['controller="workspace"'],
    ).toBeGreaterThan(40 * FLEET);
    expect(fleet.told()).toHaveLength(early);

    fleet.problems.clear();
    await fleet.clock.advance(5 * MINUTE);
    const ready = fleet.told().slice(early);
    expect(ready.map(({ message }) => message)).toEqual(Array(FLEET).fill('ready'));
  });

  it.each<[string, () => void]>([
    ['suspended', () => fleet.declare('alice', { suspend: true })],
    ['external', () => fleet.declare('alice', { target: { external: {} } })],
  ])('says of a %s workspace once that nobody works on it', async (_what, declare) => {
    declare();
    fleet.lead();
    await fleet.clock.advance(4 * HOUR);
    expect(fleet.told().map(({ level, message }) => [level, message])).toEqual([['info', 'not ready']]);
  });

  it.each<[string, string[], () => ReconcileError]>([
    ['an engine is away', ['warn'], () => transient('Unreachable', `no answer, the ${fleet.clock.now()}th time`)],
    ['the declaration cannot be used', ['error'], () => terminal('TargetNotAllowed', 'the path lies below no root')],
  ])('does not repeat for a day that %s', async (_what, levels, problem) => {
    fleet.declare('alice');
    fleet.problems.set('alice', problem);
    fleet.lead();
    await fleet.clock.advance(24 * HOUR);
    expect(fleet.told().map(({ level }) => level)).toEqual(levels);
  });

  it('says of a store that is down for a day once what waits for it', async () => {
    for (let n = 0; n < 10; n++) fleet.declare(`w${n}`);
    fleet.lead();
    await fleet.clock.advance(MINUTE);
    const before = fleet.told().length;
    fleet.backend.break();
    await fleet.clock.advance(24 * HOUR);
    const told = fleet.told().slice(before);
    expect(told.filter(({ fields }) => 'key' in fields)).toHaveLength(10);
    // Its full list is a loop of its own, and so is what tidies up.
    expect(told.filter(({ fields }) => !('key' in fields)).map(({ fields }) => fields['loop'])).toEqual([
      'resync',
      'state-sweep',
    ]);
  });

  it('says once that a forge is down', async () => {
    fleet.declare('alice', { plugins: [{ name: 'greeter', source: 'github://obra/greeter#main' }] });
    fleet.forgeProblem = transient('SourceUnavailable', 'the forge is down');
    fleet.lead();
    await fleet.clock.advance(6 * HOUR);
    expect(fleet.told().map(({ fields }) => fields['reason'])).toEqual(['SourceUnavailable']);
  });
});

describe('labels', () => {
  it('take nothing from what people write: schemes, names and sources that nobody knows', async () => {
    const odd = ['x"y://a', 'evil://a\nb', 'http://user:hunter2@host/x', 'github://', '../..', 'oci://r/x:1'];
    for (let n = 0; n < 40; n++) {
      const plugins = odd.map((source, at) => ({ name: `p${at}`, source: `${source}${n}` }));
      fleet.declare(`w${n}`, { runtime: `runtime-${n}`, plugins }, `team-${n}`);
      fleet.declare(`v${n}`, { plugins: [{ name: 'p', source: `evil${n}://a` }] });
    }
    fleet.lead();
    await fleet.clock.advance(10 * MINUTE);
    const { body } = await fleet.metrics.expose();
    const { problems, values } = labelValues(body, fleet.metrics.catalogue);
    expect(problems).toEqual([]);
    expect(values.get('scheme')).toEqual(new Set(['github', 'git+https', 'unknown']));
    expect(values.get('loop')).toEqual(new Set(['resync', 'state-sweep']));
    expect(body).not.toContain('hunter2');
    await fleet.stop();
  });
});

describe('gauges over the fleet: what is unknown is never 0', () => {
  const GAUGES = [
    'plugset_workspaces',
    'plugset_plugins',
    'plugset_drifted_workspaces',
    'plugset_reason_workspaces',
    'plugset_held_workspaces',
    'plugset_unreadable_declarations',
    'plugset_workspace_ready',
    'plugset_workspace_info',
    'plugset_source_declared_plugins',
    'plugset_source_followed_repositories',
    'plugset_source_last_success_timestamp_seconds',
  ];
  const present = async (): Promise<readonly string[]> => {
    const all = await Promise.all(GAUGES.map(async (name) => [name, await fleet.samples(name)] as const));
    return all.filter(([, samples]) => Object.keys(samples).length > 0).map(([name]) => name);
  };
  const git = { plugins: [{ name: 'greeter', source: 'github://obra/greeter#main' }] };

  it('a standby has none, a leader has them, and whoever stops leading has none any more', async () => {
    fleet.declare('alice', { plugins: [] });
    fleet.declare('bob', git);
    expect(await present()).toEqual([]);
    fleet.lead();
    await fleet.clock.advance(MINUTE);
    expect(await present()).toEqual(GAUGES);
    await fleet.stop();
    expect(await present()).toEqual([]);
  });

  it('a leader whose store cannot be read has none', async () => {
    fleet.declare('alice');
    fleet.backend.break();
    fleet.lead();
    await fleet.clock.advance(MINUTE);
    expect(await present()).toEqual([]);
    await expect(fleet.stop()).rejects.toMatchObject({ reason: 'StoreUnavailable' });
  });

  it('one whose store goes down later has none while it is down', async () => {
    fleet.declare('alice');
    fleet.lead();
    await fleet.clock.advance(MINUTE);
    expect(await fleet.samples('plugset_workspaces')).toMatchObject({ 'ready="True"': 1, 'ready="False"': 0 });
    fleet.backend.break();
    await fleet.clock.advance(5 * MINUTE);
    expect(await present()).toEqual([]);
    fleet.backend.heal();
    await fleet.clock.advance(5 * MINUTE);
    expect(await fleet.samples('plugset_workspaces')).toMatchObject({ 'ready="True"': 1 });
    await fleet.stop();
  });

  it('a workspace that no pass has seen counts as unknown, not as missing', async () => {
    for (let n = 0; n < 500; n++) fleet.declare(`w${n}`);
    fleet.lead();
    await fleet.clock.advance(1_000);
    const { 'ready="True"': ready = 0, 'ready="Unknown"': unknown = 0 } = await fleet.samples('plugset_workspaces');
    expect(ready).toBeGreaterThan(0);
    expect(unknown).toBeGreaterThan(0);
    expect(ready + unknown).toBe(500);
    await fleet.stop();
  });

  it('suspended and external ones are idle, and have no say in whether a workspace is ready', async () => {
    fleet.declare('alice');
    fleet.declare('bob', { suspend: true });
    fleet.declare('carol', { target: { external: {} } });
    fleet.declare('dave');
    fleet.problems.set('dave', () => transient('Unreachable', 'no answer'));
    fleet.lead();
    await fleet.clock.advance(MINUTE);
    expect(await fleet.samples('plugset_workspaces')).toEqual({
      'ready="True"': 1,
      'ready="False"': 0,
      'ready="Unknown"': 1,
      'ready="Held"': 0,
      'ready="Idle"': 2,
    });
    expect(await fleet.samples('plugset_workspace_ready')).toEqual({ 'namespace="default",name="alice"': 1 });
    expect(Object.keys(await fleet.samples('plugset_workspace_info'))).toEqual([
      'namespace="default",name="alice",ready="True",reason="Succeeded"',
      'namespace="default",name="bob",ready="Idle",reason="Suspended"',
      'namespace="default",name="carol",ready="Idle",reason="Pull"',
      'namespace="default",name="dave",ready="Unknown",reason="Unreachable"',
    ]);
    await fleet.stop();
  });

  it('series of a workspace go with it', async () => {
    fleet.declare('alice', git);
    fleet.lead();
    await fleet.clock.advance(MINUTE);
    expect((await fleet.metrics.expose()).body).toContain('"alice"');
    fleet.backend.remove(workspaceKey('default', 'alice'));
    await fleet.clock.advance(MINUTE);
    expect((await fleet.metrics.expose()).body).not.toContain('"alice"');
    expect(await fleet.samples('plugset_source_declared_plugins')).toMatchObject({
      'scheme="github",tracking="moving"': 0,
    });
    await fleet.stop();
  });
});

describe('I-02, second half: a follower that follows nothing while git plugins are declared is seen', () => {
  const sum = (samples: Readonly<Record<string, number>>, part: string): number =>
    Object.entries(samples).reduce((total, [labels, value]) => total + (labels.includes(part) ? value : 0), 0);
  /** As PlugsetSourcesNotFollowed says it. */
  const alarm = async (): Promise<boolean> => {
    const moving = sum(await fleet.samples('plugset_source_declared_plugins'), 'tracking="moving"');
    const followed = sum(await fleet.samples('plugset_source_followed_repositories'), '');
    return moving > 0 && !(followed > 0);
  };
  const declare = (ref: string): void => {
    const plugins = ['a', 'b'].map((name) => ({ name, source: `github://obra/${name}#${ref}` }));
    for (const name of ['alice', 'bob']) fleet.declare(name, { plugins });
  };
  afterEach(() => fleet.stop());

  it('is silent while branches are followed, each repository once', async () => {
    declare('main');
    fleet.lead();
    await fleet.clock.advance(10 * MINUTE);
    expect(await fleet.samples('plugset_source_declared_plugins')).toMatchObject({
      'scheme="github",tracking="moving"': 4,
      'scheme="github",tracking="pinned"': 0,
      'scheme="git+https",tracking="moving"': 0,
    });
    expect(await fleet.samples('plugset_source_followed_repositories')).toMatchObject({
      'scheme="github",outcome="ok"': 2,
      'scheme="github",outcome="error"': 0,
    });
    expect(await alarm()).toBe(false);
  });

  it('is raised when the tracking mode is derived wrongly, as it was then: everything taken for pinned', async () => {
    fleet.takesAllForPinned = true;
    declare('main');
    fleet.lead();
    await fleet.clock.advance(10 * MINUTE);
    expect(sum(await fleet.samples('plugset_source_followed_repositories'), '')).toBe(0);
    expect(await alarm()).toBe(true);
  });

  it('is silent where there is nothing to follow: full commits, or no git plugins at all', async () => {
    declare(COMMIT);
    fleet.lead();
    await fleet.clock.advance(10 * MINUTE);
    expect(await fleet.samples('plugset_source_declared_plugins')).toMatchObject({
      'scheme="github",tracking="moving"': 0,
      'scheme="github",tracking="pinned"': 4,
    });
    expect(await alarm()).toBe(false);
  });

  it('tells a forge that does not answer from one that is not asked: the time of the last answer stands still', async () => {
    declare('main');
    fleet.lead();
    await fleet.clock.advance(10 * MINUTE);
    const last = async (): Promise<number | undefined> =>
      (await fleet.samples('plugset_source_last_success_timestamp_seconds'))['scheme="github"'];
    const before = await last();
    expect(fleet.clock.now() / 1000 - (before ?? 0)).toBeLessThan(70);
    fleet.forgeProblem = transient('SourceUnavailable', 'the forge is down');
    await fleet.clock.advance(20 * MINUTE);
    expect(fleet.clock.now() / 1000 - ((await last()) ?? 0)).toBeGreaterThan(15 * 60);
    expect(await fleet.samples('plugset_source_followed_repositories')).toMatchObject({
      'scheme="github",outcome="error"': 2,
    });
    expect(await alarm()).toBe(false);
  });
});
