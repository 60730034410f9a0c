import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';

import type { AllowedHosts } from '../../src/domain/access.ts';
import type { Config } from '../../src/config.ts';
import { findCondition } from '../../src/domain/condition.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import type { WorkspaceStatus } from '../../src/domain/status.ts';
import type { Policy } from '../../src/domain/workspace.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase } from '../support/fresh-database.ts';
import { SshMachine } from '../support/machine/ssh-machine.ts';
import { Terminal } from '../support/terminal.ts';
import { startPlugset, writePlugin, type Plugset, type PlugsetOptions } from '../support/plugset.ts';

/** Owns /configs, and is not the one who logs in. */
const AGENT = 1500;
/** Restarts count how often they were made, and say when. */
const ACTIVATION = {
  restart: ['sudo', '-n', 'sh', '-c', 'echo >>/run/restarts; date +%s.%N >/run/started'],
  startedAt: ['cat', '/run/started'],
};

await withBackend('machine', () => {
  describe('a workspace on a host', async () => {
    let machine: SshMachine;
    let plugset: Plugset | undefined;

    beforeEach(async () => {
      const users = [
        { name: 'ubuntu', uid: 1000 },
        { name: 'agent', uid: AGENT, sudo: false },
      ];
      machine = await SshMachine.boot({ users });
      await machine.machine.shell('mkdir /configs && chown 1500:1500 /configs && echo 1700000000 >/run/started');
    });
    afterEach(async () => {
      await plugset?.stop();
      plugset = undefined;
      await machine.close();
    });

    const start = async (
      store: PlugsetOptions['store'],
      allowed: Partial<AllowedHosts> = {},
      config: Partial<Config> = {},
    ): Promise<Plugset> => {
      const entry: AllowedHosts = {
        hosts: ['127.0.0.*'],
        user: 'ubuntu',
        keyFile: machine.clientKeyFile,
        knownHostsFile: machine.knownHostsFile,
        firstContact: 'strict',
        ...allowed,
      };
      const started = await startPlugset({ store, config: { sshHosts: [entry], ...config } });
      plugset = started;
      for (const name of ['one', 'two']) await release(name, '1.0.0');
      return started;
    };
    const release = (name: string, version: string): Promise<void> =>
      writePlugin(join(plugset?.dirs.registry ?? '', name), {
        'plugin.yaml': `name: ${name}\nversion: ${version}\n`,
        'bin/run': `#!/bin/sh\necho ${version}\n`,
      });
    const target = () => ({ ssh: { host: '127.0.0.1', port: machine.port } });
    const declare = async (plugins: readonly string[], policy: Partial<Policy> = {}): Promise<void> => {
      await plugset?.app.store.apply(
        {
          apiVersion: 'plugset.dev/v1alpha1',
          kind: 'Workspace',
          metadata: { name: 'alice' },
          spec: {
            runtime: 'claude-code',
            target: target(),
            plugins: plugins.map((name) => ({ name, source: name })),
            policy,
          },
        },
        AbortSignal.timeout(60_000),
      );
    };
    const installed = (): Promise<readonly string[]> => readdir(`${machine.machine.root}/configs/plugins`);
    const printed = (name: string): Promise<string> => machine.machine.exec([`/configs/plugins/${name}/bin/run`]);
    const ready = (status: WorkspaceStatus) => findCondition(status.conditions, 'Ready');

    it('is installed, upgraded, healed and emptied as its YAML file says', async () => {
      const { until, untilReady, requested, status: now } = await start({ kind: 'files' });
      await declare(['one', 'two'], { deletion: 'Remove' });
      expect(await untilReady('alice')).toMatchObject({
        summary: '2/2',
        target: `host ubuntu@[127.0.0.1]:${machine.port}`,
      });
      expect(await printed('one')).toBe('1.0.0\n');
      expect((await machine.machine.exec(['stat', '-c', '%u', '/configs/plugins/one'])).trim()).toBe(`${AGENT}`);

      await release('one', '2.0.0');
      await eventually(async () => expect(await printed('one')).toBe('2.0.0\n'));

      await writeFile(`${machine.machine.root}/configs/plugins/two/bin/run`, 'edited');
      await requested('alice');
      await untilReady('alice');
      expect(await printed('two')).toBe('1.0.0\n');

      const [, secret = ''] = (await readFile(machine.clientKeyFile, 'utf8')).split('\n');
      expect(JSON.stringify([plugset?.logger.lines, await now('alice')])).not.toContain(secret);

      await declare(['two'], { deletion: 'Remove' });
      await until('alice', (status) => expect(status).toMatchObject({ summary: '1/1' }));
      expect(await installed()).toEqual(['two']);
    });

    it('restarts its runtime once by the command of the profile', async () => {
      const { until } = await start(
        { kind: 'files' },
        {},
        {
          profiles: BUILT_IN_PROFILES.map((profile) => ({ ...profile, bootMs: 0, activation: ACTIVATION })),
          activation: { quietMs: 500, patienceMs: 5_000, perHour: 3 },
        },
      );
      await declare(['one', 'two']);
      await until('alice', (status) => {
        expect(ready(status)?.status).toBe('True');
        expect(findCondition(status.conditions, 'ActivationPending')).toBeUndefined();
      });
      await eventually(async () => expect(await readFile(`${machine.machine.root}/run/restarts`, 'utf8')).toBe('\n'));
    });

    it('is left alone when another host answers in its place, until somebody says that this is right', async () => {
      const { until, untilReady, requested, config } = await start(
        { kind: 'files' },
        { knownHostsFile: undefined, firstContact: 'tofu' },
      );
      await declare(['one']);
      expect((await untilReady('alice')).target).toMatch(/\(host key not verified\)/);
      await machine.changeHostKeys();
      await until('alice', (status) =>
        expect(ready(status)).toMatchObject({ reason: 'HostKeyMismatch', status: 'False' }),
      );
      const store = ['--files', config.store.kind === 'files' ? config.store.dir : '', '--state-dir', config.stateDir];
      const host = `[127.0.0.1]:${machine.port}`;
      expect((await new Terminal().run(['hostkey', 'list', ...store])).stdout).toContain(host);
      expect((await new Terminal().run(['hostkey', 'forget', host, ...store])).code).toBe(0);
      await requested('alice');
      expect((await untilReady('alice')).summary).toBe('1/1');
    });

    it("is nobody's to name whom the operator has not given it to", async () => {
      const { until } = await start({ kind: 'files' }, { namespaces: ['team-a'] });
      await declare(['one']);
      await until('alice', (status) => expect(ready(status)).toMatchObject({ reason: 'TargetNotAllowed' }));
    });

    it('is not logged in to while nothing vouches for its key', async () => {
      const { until } = await start({ kind: 'files' }, { knownHostsFile: undefined });
      await declare(['one']);
      await until('alice', (status) => expect(ready(status)).toMatchObject({ reason: 'HostKeyUnknown' }));
    });

    it('says that its owner cannot be had without sudo', async () => {
      await machine.machine.exec(['rm', '/etc/sudoers.d/ubuntu']);
      const { until } = await start({ kind: 'files' });
      await declare(['one']);
      await until('alice', (status) => expect(ready(status)).toMatchObject({ reason: 'SudoRefused', status: 'False' }));
    });

    await withBackend('postgres', (serverUrl) => {
      it('is installed, upgraded, healed and emptied as rows of Postgres say', async () => {
        const database = await freshDatabase(serverUrl);
        onTestFinished(() => database.drop());
        const { until, untilReady, requested, stop } = await start({ kind: 'postgres', url: database.url });
        await database.sql(
          `insert into plugset.workspaces (name, runtime, target) values ('alice', 'claude-code', $1)`,
          [target()],
        );
        await database.sql(`insert into plugset.plugins (workspace, name, source) values ('alice', 'one', 'one')`);
        await until('alice', (status) => expect(status).toMatchObject({ summary: '1/1' }));
        expect(await printed('one')).toBe('1.0.0\n');
        await release('one', '2.0.0');
        await eventually(async () => expect(await printed('one')).toBe('2.0.0\n'));
        await machine.machine.exec(['rm', '/configs/plugins/one/bin/run']);
        await requested('alice');
        await untilReady('alice');
        expect(await printed('one')).toBe('2.0.0\n');
        await database.sql(`delete from plugset.workspaces`);
        await eventually(async () => expect(await database.sql('select * from plugset.tombstones')).toEqual([]));
        expect(await installed()).toEqual([]);
        plugset = undefined;
        await stop();
      });
    });
  });
});
