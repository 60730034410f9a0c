import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

import type { WorkspaceKey } from '../../../src/domain/name.ts';
import { eventually } from '../../support/eventually.ts';
import { CliBench, manifest, pluginStatus, READY, statusWith } from './fixtures.ts';

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
      /alice +False +Unreachable .*is being deleted; engine default does not answer/,
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
    expect(stdout).toMatch(/old +Failed +- +- +PluginNotFound +0s +gone\n/);
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
        'error: the store is down, says the test (StoreUnavailable)\n  The store could not be read or written; nothing is concluded from that.\n',
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
    expect(lines[0]).toMatch(/^team-a {5}bob {4}True +Succeeded/);
    expect(lines[1]).toMatch(/^default {4}carol {2}- +Deleted/);

    cli.interrupt();
    expect(await cli.finished).toMatchObject({ code: 1, stderr: '' });
    expect(bench.clock.pendingTimers).toBe(0);
  });

  it('goes on when the store is away for a while, and prints the header even while nothing is declared', async () => {
    const bench = new CliBench();
    const cli = bench.start(['status', '-w']);
    await eventually(() => expect(cli.stdout()).toBe('NAMESPACE  NAME  READY  REASON  PLUGINS  DRIFT  TARGET  AGE\n'));
    await bench.clock.advance(0);
    bench.backend.failNext();
    await bench.clock.advance(1000);
    expect(cli.stderr()).toContain('warning: the store is down, says the test (StoreUnavailable); trying again\n');
    bench.declare(manifest('alice'), READY);
    await bench.clock.advance(1000);
    expect(cli.stdout()).toContain('default    alice  True');
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
