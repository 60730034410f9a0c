import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

import type { WorkspaceKey } from '../../../src/domain/name.ts';
import { eventually } from '../../support/eventually.ts';
import { CliBench, manifest, pluginStatus, READY, START, statusWith } from './fixtures.ts';

function benchWithThree(): CliBench {
  const bench = new CliBench();
  bench.declare(manifest('bob', {}, 'team-a'));
  bench.declare(manifest('alice'), READY);
  bench.declare(
    manifest('carol'),
    statusWith(
      [
        ['Ready', 'False', 'PluginNotFound', 'no such ref'],
        ['Stalled', 'True', 'PluginNotFound', 'no such ref'],
        ['Reachable', 'True', 'Succeeded'],
      ],
      { summary: '0/1', plugins: [pluginStatus('superpowers', { state: 'Drifted', reason: 'Drifted' })] },
    ),
  );
  bench.clock.tick(150_000);
  return bench;
}

describe('status', () => {
  it('-o name prints names as they can be typed back', async () => {
    const bench = benchWithThree();
    expect(await bench.run(['status', '-o', 'name'])).toEqual({
      code: 0,
      stdout: 'alice\ncarol\nteam-a/bob\n',
      stderr: '',
    });
    expect((await bench.run(['status', '-o', 'name', '-n', 'team-a'])).stdout).toBe('bob\n');
    expect(await bench.run(['status', 'alice', '-o', 'name'])).toMatchObject({ code: 1, stdout: '' });
  });

  it('shows every workspace, sorted, with what is not known marked as unknown', async () => {
    const { code, stdout, stderr } = await benchWithThree().run(['status']);
    expect(stdout.split('\n').map((line) => line.replaceAll(/ {2,}/g, ' | '))).toEqual([
      'NAMESPACE | NAME | READY | REASON | PLUGINS | DRIFT | TARGET | AGE',
      'default | alice | True | Succeeded | 1/1 | 0 | container ws-alice on engine default | 2m30s',
      'default | carol | False | PluginNotFound | 0/1 | 1 | container ws-alice on engine default | 2m30s',
      'team-a | bob | Unknown | - | ?/1 | ? | container ws-bob | -',
      '',
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  it('filters by namespace, and says so when nothing is there', async () => {
    const bench = benchWithThree();
    expect((await bench.run(['status', '-n', 'team-a'])).stdout.split('\n')).toHaveLength(3);
    expect(await bench.run(['status', '-n', 'nobody'])).toMatchObject({
      code: 0,
      stdout: '',
      stderr: 'no workspaces are declared in namespace nobody\n',
    });
  });

  it('adds runtime, plan and message when asked for a wide table', async () => {
    const { stdout } = await benchWithThree().run(['status', '-o', 'wide']);
    expect(stdout).toMatch(/AGE +RUNTIME +PLAN +MESSAGE\n/);
    expect(stdout).toMatch(/carol.* claude-code +- +no such ref\n/);
  });

  it('does not let the True of an old generation stand for a new declaration', async () => {
    const bench = new CliBench();
    bench.declare(manifest('alice'), READY);
    bench.declare(manifest('alice', { runtime: 'hermes' }));
    expect((await bench.run(['status'])).stdout).toMatch(/alice +Unknown +Progressing /);
  });

  it('shows a workspace that is being deleted, and why that does not go on', async () => {
    const bench = new CliBench();
    const key = bench.declare(manifest('alice'), READY);
    bench.backend.remove(key);
    expect((await bench.run(['status'])).stdout).toMatch(/alice +False +Deleting /);
    bench.report(key, statusWith([['Ready', 'Unknown', 'Unreachable', 'engine default does not answer']]));
    expect((await bench.run(['status', '-o', 'wide'])).stdout).toMatch(
      /alice +False +Deleting: Unreachable .*is being deleted; engine default does not answer/,
    );
  });

  it('shows a malformed declaration before any daemon has seen it', async () => {
    const bench = new CliBench();
    const key = bench.declare(manifest('alice'));
    bench.backend.malform(key, 'alice.yaml:3:5: spec.runtime: is required');
    const { stdout } = await bench.run(['status', '-o', 'wide']);
    expect(stdout).toMatch(
      /alice +False +InvalidSpec +\? +\? +- +- +- +- +alice.yaml:3:5: spec.runtime: is required\n/,
    );
  });

  it('shows the plugins of a named workspace', async () => {
    const bench = new CliBench();
    const missing = pluginStatus('old', {
      state: 'Failed',
      reason: 'PluginNotFound',
      message: 'gone',
      version: undefined,
      revision: undefined,
    });
    bench.declare(manifest('alice'), { ...READY, plugins: [pluginStatus('superpowers'), missing] });
    const { stdout } = await bench.run(['status', 'alice']);
    expect(stdout).toMatch(/\nPlugins of default\/alice\nNAME +STATE +REVISION +VERSION +REASON +SINCE +MESSAGE\n/);
    expect(stdout).toMatch(/superpowers +Installed +0123456789ab +4\.0\.0 +Succeeded +0s +as declared\n/);
    expect(stdout, 'by name').toMatch(/old +Failed +- +- +PluginNotFound +0s +gone\nsuperpowers /);
  });

  it('prints one named workspace as an object and several as a list, like kubectl', async () => {
    const bench = benchWithThree();
    const one = JSON.parse((await bench.run(['status', 'alice', '-o', 'json'])).stdout) as Record<string, unknown>;
    expect(one).toMatchObject({
      apiVersion: 'plugset.dev/v1alpha1',
      kind: 'Workspace',
      metadata: { name: 'alice', namespace: 'default', generation: 1 },
      spec: { runtime: 'claude-code', plugins: [{ name: 'superpowers', source: 'github://obra/superpowers#v4' }] },
      status: { summary: '1/1' },
    });
    const list = parse((await bench.run(['status', '-o', 'yaml'])).stdout) as { kind: string; items: unknown[] };
    expect(list.kind).toBe('List');
    expect(list.items).toHaveLength(3);
  });

  it('prints YAML that kubectl, which reads an older one, takes for the same', async () => {
    const bench = benchWithThree();
    bench.declare(manifest('careful', { policy: { drift: 'Off' } }));
    const { stdout } = await bench.run(['status', 'careful', '-o', 'yaml']);
    expect(parse(stdout, { version: '1.1' })).toEqual(parse(stdout));
    expect(stdout).toContain('drift: "Off"');
  });

  it('fails for a name that is not declared, says where one is, and shows the others', async () => {
    const { code, stdout, stderr } = await benchWithThree().run(['status', 'alice', 'bob']);
    expect(code).toBe(1);
    expect(stdout).toContain('alice');
    expect(stderr).toBe('error: workspace default/bob is not declared; did you mean team-a/bob?\n');
  });

  it('refuses what cannot be a name', async () => {
    const { code, stderr } = await benchWithThree().run(['status', '../etc']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: "\.\.\/etc" is no workspace: give NAME or NAMESPACE\/NAME/);
  });

  it('says on standard error as of when it is, while no controller is running', async () => {
    const bench = benchWithThree();
    bench.holder = { name: 'host-7', isLeading: false, since: START, until: '2026-01-01T00:02:00.000Z' };
    const { code, stdout, stderr } = await bench.run(['status', '-o', 'json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ kind: 'List' });
    expect(stderr).toBe('no controller is running: what is shown is as of 30s ago, when host-7 ended\n');
  });

  it('marks the revision of a plugin that nobody can look at as of when it was seen', async () => {
    const bench = new CliBench();
    const blind = pluginStatus('superpowers', { state: 'Unknown', reason: 'Suspended', seenAt: START });
    bench.declare(manifest('alice'), statusWith([['Ready', 'Unknown', 'Suspended']], { plugins: [blind] }));
    bench.clock.tick(300_000);
    expect((await bench.run(['status', 'alice'])).stdout).toMatch(/superpowers +Unknown +0123456789ab \(5m ago\) +4/);
  });

  it('closes the store', async () => {
    const bench = benchWithThree();
    await bench.run(['status']);
    expect(bench.closed).toBe(1);
  });

  it('says what a store that cannot be read means', async () => {
    const bench = benchWithThree();
    bench.backend.break();
    expect(await bench.run(['status'])).toMatchObject({
      code: 1,
      stdout: '',
      stderr:
        'error: the store is down, says the test (StoreUnavailable)\n  Check that the database, the directory or the Kubernetes API can be reached from here, and lets plugset read and write there.\n',
    });
  });

  it('colours on a terminal only', async () => {
    const bench = benchWithThree();
    expect((await bench.run(['status'])).stdout).not.toContain('\u001b');
    expect((await bench.run(['status'], { isTerminal: true })).stdout).toContain('\u001b[32mTrue\u001b[39m');
  });
});

describe('status --watch', () => {
  it('prints only rows that change, and ends quietly when interrupted', async () => {
    const bench = benchWithThree();
    const cli = bench.start(['status', '-w']);
    await eventually(() => expect(cli.stdout()).toContain('carol'));
    const before = cli.stdout();
    await bench.clock.advance(3000);
    expect(cli.stdout()).toBe(before);

    bench.report('team-a/bob' as WorkspaceKey, READY);
    bench.backend.rows.delete('default/carol' as WorkspaceKey);
    await bench.clock.advance(1000);
    const lines = cli.stdout().slice(before.length).split('\n');
    expect(lines).toHaveLength(3);
    expect(lines[0], 'with the time of the clock on the wall').toMatch(
      /^\d\d:\d\d:34  team-a {5}bob {4}True +Succeeded/,
    );
    expect(lines[1]).toMatch(/^\d\d:\d\d:34  default {4}carol {2}- +Deleted/);

    cli.interrupt();
    expect(await cli.finished).toMatchObject({ code: 1, stderr: '' });
    expect(bench.clock.pendingTimers).toBe(0);
  });

  it('shows what was done when something was, even where the row is as before', async () => {
    const bench = benchWithThree();
    const cli = bench.start(['status', '-w']);
    await eventually(() => expect(cli.stdout()).toContain('carol'));
    const before = cli.stdout();
    const summary = 'replaced superpowers v1.0.0 (0123456789ab) → v1.1.0 (89abcdef0123)';
    const entry = { planId: 'p', outcome: 'Succeeded', summary, firstAt: START, lastAt: START, times: 1 } as const;
    const alice = 'default/alice' as WorkspaceKey;
    await bench.clock.advance(0);
    bench.report(alice, { ...READY, history: [entry] });
    await bench.clock.advance(1000);
    const failure = { ...entry, outcome: 'Unknown', summary: 'began to install maps', lastAt: '2026-01-02T00:00:00Z' };
    bench.report(alice, { ...READY, history: [{ ...failure, outcome: 'Unknown' }, entry] });
    await bench.clock.advance(1000);
    const lines = cli.stdout().slice(before.length).split('\n');
    expect(lines[0]).toMatch(/alice +True +Succeeded .* replaced superpowers v1\.0\.0 \(0123456789ab\) → v1\.1\.0/);
    expect(lines[1]).toMatch(/alice .* began to install maps; what came of it is not known$/);
    expect(lines).toHaveLength(3);
    cli.interrupt();
    await cli.finished;
  });

  it('says once when the controller goes, and when one is back', async () => {
    const bench = benchWithThree();
    const cli = bench.start(['status', '-w']);
    await eventually(() => expect(cli.stdout()).toContain('carol'));
    await bench.clock.advance(0);
    bench.holder = { name: 'host-7', isLeading: false, since: START, until: '2026-01-01T00:02:30.000Z' };
    await bench.clock.advance(3000);
    expect(cli.stderr()).toBe('no controller is running: what is shown is as of 1s ago, when host-7 ended\n');
    bench.holder = { name: 'host-8', isLeading: true, since: START };
    await bench.clock.advance(1000);
    expect(cli.stderr()).toMatch(/\na controller is running now\n$/);
    cli.interrupt();
    await cli.finished;
  });

  it('goes on when the store is away for a while, and prints the header even while nothing is declared', async () => {
    const bench = new CliBench();
    const cli = bench.start(['status', '-w']);
    await eventually(() =>
      expect(cli.stdout()).toBe('TIME  NAMESPACE  NAME  READY  REASON  PLUGINS  DRIFT  TARGET  AGE  WHAT HAPPENED\n'),
    );
    await bench.clock.advance(0);
    bench.backend.failNext();
    await bench.clock.advance(1000);
    expect(cli.stderr()).toContain('warning: the store is down, says the test (StoreUnavailable); trying again\n');
    bench.declare(manifest('alice'), READY);
    await bench.clock.advance(1000);
    expect(cli.stdout()).toMatch(/^\d\d:\d\d:\d\d  default {4}alice  True/m);
    cli.interrupt();
    await cli.finished;
  });

  it('prints one document for each change', async () => {
    const bench = benchWithThree();
    const cli = bench.start(['status', '-w', '-o', 'yaml']);
    await eventually(() => expect(cli.stdout()).toContain('carol'));
    const before = cli.stdout();
    await bench.clock.advance(0);
    bench.report('team-a/bob' as WorkspaceKey, READY);
    await bench.clock.advance(1000);
    expect(cli.stdout().slice(before.length)).toMatch(
      /^---\napiVersion: plugset.dev\/v1alpha1\nkind: Workspace\nmetadata:\n {2}name: bob\n/,
    );
    cli.interrupt();
    await cli.finished;
  });
});
