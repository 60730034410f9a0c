import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import type { Config } from '../../src/config.ts';
import { DEFAULT_EC2_ACCESS, type Ec2Access } from '../../src/domain/access.ts';
import { findCondition } from '../../src/domain/condition.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import type { WorkspaceStatus } from '../../src/domain/status.ts';
import { FakeAws } from '../support/aws/fake-aws.ts';
import type { FakeInstance } from '../support/aws/fake-instance.ts';
import { expectNoSecrets } from '../support/aws/secrets.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { startPlugset, writePlugin, type Plugset, type PlugsetOptions } from '../support/plugset.ts';
import { Terminal } from '../support/terminal.ts';

const AGENT = 1500;
const TAG = 'plugset.dev/workspace';
/** Restarts count how often they were made, and say when. */
const ACTIVATION = {
  restart: ['sudo', '-n', 'sh', '-c', 'echo >>/run/restarts; date +%s.%N >/run/started'],
  startedAt: ['cat', '/run/started'],
};
const RESTARTING: Partial<Config> = {
  profiles: BUILT_IN_PROFILES.map((profile) => ({ ...profile, bootMs: 0, activation: ACTIVATION })),
  activation: { quietMs: 500, patienceMs: 5_000, perHour: 3 },
};

await withBackend('machine', () => {
  describe('a workspace on an EC2 instance', async () => {
    let aws: FakeAws;
    let plugset: Plugset | undefined;

    beforeEach(async () => {
      aws = await FakeAws.start();
    });
    afterEach(async () => {
      await plugset?.stop();
      plugset = undefined;
      await aws.close();
    });

    const launch = (tags: Record<string, string> = { [TAG]: 'default/alice' }): Promise<FakeInstance> =>
      aws.launch({
        tags,
        users: [
          { name: 'ubuntu', uid: 1000 },
          { name: 'agent', uid: AGENT, sudo: false },
        ],
        directories: { '/configs': AGENT },
      });

    const start = async (
      store: PlugsetOptions['store'],
      access: Partial<Ec2Access> = {},
      config: Partial<Config> = {},
    ): Promise<Plugset> => {
      const { accessKeyId, secretAccessKey, sessionToken = '' } = aws.credentials;
      const started = await startPlugset({
        store,
        config: { ec2: { ...DEFAULT_EC2_ACCESS, regions: [{ name: aws.region }], ...access }, ...config },
        parts: {
          aws: {
            credentials: { accessKeyId, secretAccessKey, sessionToken },
            endpoints: { ec2: aws.url, instanceConnect: aws.url },
            ca: aws.ca,
          },
        },
      });
      plugset = started;
      for (const name of ['one', 'two']) await release(name, '1.0.0');
      return started;
    };
    const release = (name: string, version: string): Promise<void> =>
      writePlugin(join(plugset?.dirs.registry ?? '', name), {
        'plugin.yaml': `name: ${name}\nversion: ${version}\n`,
        'bin/run': `#!/bin/sh\necho ${version}\n`,
      });
    const printed = (on: FakeInstance, name: string): Promise<string> =>
      on.ssh.machine.exec([`/configs/plugins/${name}/bin/run`]);
    const installed = (on: FakeInstance): Promise<readonly string[]> => readdir(`${on.root}/configs/plugins`);
    const ready = (status: WorkspaceStatus) => findCondition(status.conditions, 'Ready');

    /** Everything that was said: no secret may be in it. */
    const expectNothingTold = async (started: Plugset): Promise<void> => {
      const metrics = await (await fetch(`${await started.metricsUrl()}/metrics`)).text();
      expect(metrics).toMatch(/plugset_aws_requests_total\{.*outcome="ok"\} [1-9]/);
      expect(aws.signatures).not.toEqual([]);
      expectNoSecrets(aws, started.logger.lines, await started.status('alice'), metrics);
    };

    await withBackend('postgres', (serverUrl) => {
      let database: FreshDatabase;
      beforeEach(async () => {
        database = await freshDatabase(serverUrl);
      });
      afterEach(async () => {
        // Whatever is connected has to go first.
        await plugset?.stop();
        plugset = undefined;
        await database.drop();
      });

      it('is installed, upgraded, healed and emptied as rows of Postgres say', async () => {
        const instance = await launch();
        const started = await start({ kind: 'postgres', url: database.url });
        const { until, untilReady, requested } = started;
        await database.sql(
          `insert into plugset.workspaces (name, runtime, target) values ('alice', 'claude-code', '{"ec2": {}}')`,
        );
        await database.sql(
          `insert into plugset.plugins (workspace, name, source) values ('alice', 'one', 'one'), ('alice', 'two', 'two')`,
        );
        await until('alice', (status) => expect(status).toMatchObject({ summary: '2/2' }));
        expect((await untilReady('alice')).target).toBe(`instance ${instance.id} in ${aws.region}`);
        expect(await printed(instance, 'one')).toBe('1.0.0\n');
        expect((await instance.ssh.machine.exec(['stat', '-c', '%u', '/configs/plugins/one'])).trim()).toBe(`${AGENT}`);

        await release('one', '2.0.0');
        await eventually(async () => expect(await printed(instance, 'one')).toBe('2.0.0\n'));

        await writeFile(`${instance.root}/configs/plugins/two/bin/run`, 'edited');
        await requested('alice');
        await untilReady('alice');
        expect(await printed(instance, 'two')).toBe('1.0.0\n');

        await database.sql(`delete from plugset.plugins where name = 'two'`);
        await until('alice', (status) => expect(status).toMatchObject({ summary: '1/1' }));
        expect(await installed(instance)).toEqual(['one']);
        await expectNothingTold(started);

        await database.sql(`delete from plugset.workspaces`);
        await eventually(async () => expect(await database.sql('select * from plugset.tombstones')).toEqual([]));
        expect(await installed(instance)).toEqual([]);
        // All of that over connections that were kept.
        expect(aws.count('SendSSHPublicKey')).toBeLessThan(5);
      });

      it("is the one that a column of the platform's own table names, once it names one, and another after that", async () => {
        await database.sql(`
          create table public.workspaces (name text primary key, instance_id text);
          create table public.plugins (workspace text not null, name text not null)`);
        await database.sql(`insert into public.workspaces values ('alice', null)`);
        await database.sql(`insert into public.plugins values ('alice', 'one')`);
        const query = {
          workspaces: `select name, 'claude-code' as runtime, instance_id as ec2_instance_id from public.workspaces`,
          plugins: `select workspace, name, name as source from public.plugins`,
          intervalMs: 200,
          channel: undefined,
          allowEmpty: false,
        };
        const { until, untilReady } = await start({ kind: 'postgres', url: database.url, query });
        await until('alice', (status) => {
          expect(ready(status)).toMatchObject({ reason: 'WorkspaceNotFound' });
          expect(findCondition(status.conditions, 'Stalled')).toBeUndefined();
        });
        const names = (instance: FakeInstance) =>
          database.sql('update public.workspaces set instance_id = $1', [instance.id]);
        const old = await launch();
        await names(old);
        await until('alice', (status) => expect(status).toMatchObject({ summary: '1/1' }));
        expect(await installed(old)).toEqual(['one']);

        await old.terminate();
        const young = await launch();
        await names(young);
        await until('alice', (status) =>
          expect(status).toMatchObject({ summary: '1/1', target: `instance ${young.id} in ${aws.region}` }),
        );
        await untilReady('alice');
        expect(await installed(young)).toEqual(['one']);
      });

      it('is another instance under the same tags, without an edit', async () => {
        const old = await launch({ [TAG]: 'default/alice', role: 'agent' });
        const { until, untilReady } = await start({ kind: 'postgres', url: database.url });
        await database.sql(
          `insert into plugset.workspaces (name, runtime, target)
             values ('alice', 'claude-code', '{"ec2": {"tags": {"role": "agent"}}}')`,
        );
        await database.sql(`insert into plugset.plugins (workspace, name, source) values ('alice', 'one', 'one')`);
        await until('alice', (status) => expect(status).toMatchObject({ summary: '1/1' }));
        expect(await installed(old)).toEqual(['one']);

        await old.terminate();
        await until('alice', (status) => expect(ready(status)).toMatchObject({ reason: 'WorkspaceNotFound' }));
        const young = await aws.launch({ ...old.options, tags: old.tags, privateIp: old.privateIp });
        await eventually(async () => expect(await installed(young)).toEqual(['one']));
        await until('alice', (status) =>
          expect(status).toMatchObject({ summary: '1/1', target: `instance ${young.id} in ${aws.region}` }),
        );
        await untilReady('alice');
        expect(await printed(young, 'one')).toBe('1.0.0\n');
      });
    });

    const declare = async (ec2: object, plugins: readonly string[]): Promise<void> => {
      const named = plugins.map((name) => ({ name, source: name }));
      const spec = { runtime: 'claude-code', target: { ec2 }, plugins: named };
      const head = { apiVersion: 'plugset.dev/v1alpha1', kind: 'Workspace' } as const;
      await plugset?.app.store.apply({ ...head, metadata: { name: 'alice' }, spec }, AbortSignal.timeout(60_000));
    };
    const hostkey = (...words: readonly string[]) => {
      const { store, stateDir } = plugset?.config ?? {};
      const files = store?.kind === 'files' ? store.dir : '';
      return new Terminal().run(['hostkey', ...words, '--files', files, '--state-dir', stateDir ?? '']);
    };

    it('restarts its runtime once by the command of the profile, and asks nothing of that kind of AWS', async () => {
      const instance = await launch();
      const { launchedAt } = instance;
      await instance.ssh.machine.shell('echo 1700000000 >/run/started');
      const { until } = await start({ kind: 'files' }, {}, RESTARTING);
      await declare({}, ['one', 'two']);
      await until('alice', (status) => {
        expect(ready(status)?.status).toBe('True');
        expect(findCondition(status.conditions, 'ActivationPending')).toBeUndefined();
      });
      await eventually(async () => expect(await readFile(`${instance.root}/run/restarts`, 'utf8')).toBe('\n'));
      expect(instance).toMatchObject({ state: 'running', launchedAt });
      expect(new Set(aws.calls)).toEqual(
        new Set([
          'DescribeInstances',
          'GetConsoleOutput',
          'DescribeInstanceConnectEndpoints',
          'OpenTunnel',
          'SendSSHPublicKey',
        ]),
      );
    });

    it('whose key nobody vouches for says so in its status, and is let go of when it shows another', async () => {
      const instance = await launch();
      const { until, untilReady, requested } = await start({ kind: 'files' }, { hostKeys: 'tofu' });
      await declare({}, ['one']);
      const unverified = `instance ${instance.id} in ${aws.region} (host key not verified)`;
      await until('alice', (status) => expect(status).toMatchObject({ summary: '1/1', target: unverified }));
      expect((await hostkey('list')).stdout).toMatch(new RegExp(`^${instance.id} .* False `, 'm'));
      await instance.ssh.changeHostKeys();
      await until('alice', (status) => expect(ready(status)).toMatchObject({ reason: 'HostKeyMismatch' }));
      expect((await hostkey('forget', instance.id)).code).toBe(0);
      await requested('alice');
      expect((await untilReady('alice')).target).toBe(unverified);
    });

    it('whose console shows an old key is logged in to again once somebody has pinned the new one', async () => {
      const instance = await launch();
      const { until, untilReady, requested } = await start({ kind: 'files' });
      await declare({}, ['one']);
      await until('alice', (status) => expect(status).toMatchObject({ summary: '1/1' }));
      const [key] = await instance.ssh.changeHostKeys();
      await until('alice', (status) => expect(ready(status)).toMatchObject({ reason: 'HostKeyMismatch' }));
      await hostkey('forget', instance.id);
      await requested('alice');
      const { conditions } = await until('alice', (status) =>
        expect(ready(status)?.message).toContain(`plugset hostkey pin ${instance.id} KEY`),
      );
      expect(findCondition(conditions, 'Ready')).toMatchObject({ reason: 'HostKeyMismatch' });
      expect((await hostkey('pin', instance.id, key?.line ?? '')).code).toBe(0);
      await requested('alice');
      expect((await untilReady('alice')).target).toBe(`instance ${instance.id} in ${aws.region}`);
    });

    it('waits for an instance that was stopped, and says so', async () => {
      const instance = await launch();
      const { until, untilReady } = await start({ kind: 'files' });
      await declare({ instanceId: instance.id }, ['one']);
      await untilReady('alice');
      await instance.stop();
      await until('alice', (status) =>
        expect(ready(status)).toMatchObject({
          reason: 'WorkspaceNotRunning',
          message: expect.stringContaining(instance.id) as string,
        }),
      );
      await instance.start();
    });
  });
});
