import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { DEFAULT_EC2_ACCESS, type Ec2Access } from '../../src/domain/access.ts';
import { findCondition } from '../../src/domain/condition.ts';
import type { WorkspaceStatus } from '../../src/domain/status.ts';
import { FakeAws } from '../support/aws/fake-aws.ts';
import type { FakeInstance } from '../support/aws/fake-instance.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { startPlugset, writePlugin, type Plugset, type PlugsetOptions } from '../support/plugset.ts';

const AGENT = 1500;
const TAG = 'plugset.dev/workspace';

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

    const start = async (store: PlugsetOptions['store'], access: Partial<Ec2Access> = {}): Promise<Plugset> => {
      const { accessKeyId, secretAccessKey, sessionToken = '' } = aws.credentials;
      const started = await startPlugset({
        store,
        config: { ec2: { ...DEFAULT_EC2_ACCESS, regions: [{ name: aws.region }], ...access } },
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

    /** Everything that was said, in one text: no secret may be in it. */
    const expectNoSecrets = async (started: Plugset): Promise<void> => {
      const metrics = await (await fetch(`${await started.metricsUrl()}/metrics`)).text();
      expect(metrics).toMatch(/plugset_aws_requests_total\{.*outcome="ok"\} [1-9]/);
      const said = JSON.stringify(
        [started.logger.lines, await started.status('alice'), metrics],
        (_key, value: unknown) =>
          value instanceof Error ? [value.message, value.stack, value.cause, Object.entries(value)] : value,
      );
      const { accessKeyId, secretAccessKey, sessionToken = 'none' } = aws.credentials;
      for (const secret of [accessKeyId, secretAccessKey, sessionToken, encodeURIComponent(sessionToken)]) {
        expect(said).not.toContain(secret);
      }
      expect(said).not.toMatch(/X-Amz-|PRIVATE KEY|openTunnel\?/);
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
        await eventually(async () => expect(await printed(instance, 'one')).toBe('2.0.0\n'), 20_000);

        await writeFile(`${instance.root}/configs/plugins/two/bin/run`, 'edited');
        await requested('alice');
        await untilReady('alice');
        expect(await printed(instance, 'two')).toBe('1.0.0\n');

        await database.sql(`delete from plugset.plugins where name = 'two'`);
        await until('alice', (status) => expect(status).toMatchObject({ summary: '1/1' }));
        expect(await installed(instance)).toEqual(['one']);
        await expectNoSecrets(started);

        await database.sql(`delete from plugset.workspaces`);
        await eventually(
          async () => expect(await database.sql('select * from plugset.tombstones')).toEqual([]),
          20_000,
        );
        expect(await installed(instance)).toEqual([]);
        // All of that over connections that were kept.
        expect(aws.count('SendSSHPublicKey')).toBeLessThan(5);
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
        await eventually(async () => expect(await installed(young)).toEqual(['one']), 30_000);
        await until('alice', (status) =>
          expect(status).toMatchObject({ summary: '1/1', target: `instance ${young.id} in ${aws.region}` }),
        );
        await untilReady('alice');
        expect(await printed(young, 'one')).toBe('1.0.0\n');
      });
    });

    it('waits for an instance that was stopped, and says so', async () => {
      const instance = await launch();
      const { app, until, untilReady } = await start({ kind: 'files' });
      await app.store.apply(
        {
          apiVersion: 'plugset.dev/v1alpha1',
          kind: 'Workspace',
          metadata: { name: 'alice' },
          spec: {
            runtime: 'claude-code',
            target: { ec2: { instanceId: instance.id } },
            plugins: [{ name: 'one', source: 'one' }],
          },
        },
        AbortSignal.timeout(10_000),
      );
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
