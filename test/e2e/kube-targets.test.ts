import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { findCondition } from '../../src/domain/condition.ts';
import { FakeAws } from '../support/aws/fake-aws.ts';
import { withBackend } from '../support/backend.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { eventually } from '../support/eventually.ts';
import { Cluster } from '../support/kube/cluster.ts';
import {
  NamespaceWorkspaces,
  startClusterPlugset,
  type ClusterPlugset,
  type ClusterPlugsetOptions,
} from '../support/kube/cluster-plugset.ts';
import { createNamespace, removeNamespace } from '../support/kube/namespace.ts';
import { installWorkspaceCrd } from '../support/kube/workspace-crd.ts';

const MARK = 'plugset.dev/workspace';

await withBackend('kubernetes', (address) => {
  describe('a custom resource', async () => {
    let cluster: Cluster;
    let namespace: string;
    let workspaces: NamespaceWorkspaces;
    let plugset: ClusterPlugset | undefined;

    beforeAll(async () => {
      cluster = await Cluster.at(address);
      await installWorkspaceCrd(cluster);
    });
    beforeEach(async () => {
      namespace = await createNamespace(cluster);
      workspaces = new NamespaceWorkspaces(cluster, namespace);
    });
    afterEach(async () => {
      await plugset?.stop();
      plugset = undefined;
      await removeNamespace(cluster, namespace);
    });

    /** A controller of this namespace alone, with its state in it too. */
    const start = async (options: Pick<ClusterPlugsetOptions, 'settings' | 'parts'> = {}): Promise<ClusterPlugset> => {
      const token = cluster.tokens.admin;
      plugset = await startClusterPlugset({
        cluster,
        token,
        stateNamespace: namespace,
        namespaces: [namespace],
        ...options,
      });
      for (const name of ['one', 'two']) await plugset.release(name, `${name}\n`);
      return plugset;
    };

    const untilRefused = (name: string, reason: string, message: RegExp): Promise<unknown> =>
      workspaces.until(name, ({ conditions }) => {
        const ready = findCondition(conditions, 'Ready');
        expect(ready).toMatchObject({ status: 'False', reason });
        expect(ready?.message).toMatch(message);
        expect(findCondition(conditions, 'Stalled')).toMatchObject({ status: 'True', reason });
      });

    it('reaches no place that the operator has not given to its namespace, whatever it names', async () => {
      const { dirs } = await start({
        settings: ({ root }) => ({
          targets: {
            docker: { engines: [{ name: 'default', address: 'unix:///nowhere' }] },
            directory: { roots: [{ path: root }, { path: `${root}/theirs`, namespaces: ['others'] }] },
            ssh: [{ hosts: ['*'], user: 'root' }],
            ec2: { regions: [{ name: 'eu-test-1' }] },
          },
        }),
      });
      const hostile = {
        docker: [{ docker: {} }, /targets\.docker\.engines, namespaces/],
        root: [{ directory: { path: join(dirs.root, 'a') } }, /targets\.directory\.roots/],
        theirs: [{ directory: { path: join(dirs.root, 'theirs/a') } }, /targets\.directory\.roots/],
        dots: [{ directory: { path: `${dirs.root}/theirs/../../../etc` } }, /targets\.directory\.roots/],
        ssh: [{ ssh: { host: '127.0.0.1' } }, /targets\.ssh/],
        ec2: [{ ec2: { instanceId: 'i-0123456789abcdef0' } }, /targets\.ec2\.regions, namespaces/],
      } as const;
      for (const [name, [target]] of Object.entries(hostile)) await workspaces.declare(name, target, ['one']);
      for (const [name, [, message]] of Object.entries(hostile)) await untilRefused(name, 'TargetNotAllowed', message);
      expect(await readdir(dirs.root)).toEqual([]);
      // Nothing was put anywhere, so nothing holds them.
      await Promise.all(Object.keys(hostile).map((name) => workspaces.delete(name)));
    });

    it('hears that there is no region at all, rather than the name of one', async () => {
      await start();
      await workspaces.declare('cloud', { ec2: {} }, ['one']);
      const message = /^workspace .*\/cloud is an EC2 instance, and the operator has allowed no region /;
      expect(await untilRefused('cloud', 'TargetNotAllowed', message)).toMatchObject({ summary: '?/1' });
      await workspaces.delete('cloud');
    });

    it('gets no plugin from where it has no business, and no secret of the controller', async () => {
      const { dirs } = await start({
        settings: ({ root }) => ({ targets: { directory: { roots: [{ path: root, namespaces: [namespace] }] } } }),
      });
      const secret = join(dirs.root, '../kubeconfig');
      const plugins = [
        { name: 'one', source: 'one' },
        { name: 'up', source: 'local://../root' },
        { name: 'file', source: `git+file://${dirs.root}/../#main` },
        { name: 'user', source: 'git+https://user:hunter2secret@forge.example.com/a/b.git#main' },
        { name: 'ref', source: 'two', config: { token: { $ref: `file:${secret}` }, env: '${DATABASE_URL}' } },
      ];
      const path = join(dirs.root, 'alice');
      await workspaces.declare('alice', { directory: { path } }, [], { plugins });
      await mkdir(path);
      const status = await workspaces.until('alice', ({ plugins: rows }) =>
        expect(Object.fromEntries(rows.map(({ name, state, reason }) => [name, reason ?? state]))).toEqual({
          one: 'Succeeded',
          up: 'InvalidSource',
          file: 'InvalidSource',
          user: 'InvalidSource',
          ref: 'ConfigNotDelivered',
        }),
      );
      expect(JSON.stringify(status)).not.toContain('hunter2secret');
      const files = await readdir(path, { recursive: true, withFileTypes: true });
      const texts = await Promise.all(
        files.filter((one) => one.isFile()).map((one) => readFile(join(one.parentPath, one.name), 'utf8')),
      );
      expect(texts.join('\n')).not.toContain(cluster.tokens.admin);
    });

    it('takes settings from a Secret of its namespace, follows it, and tells nobody', async () => {
      const { dirs } = await start({
        settings: ({ root }) => ({ targets: { directory: { roots: [{ path: root, namespaces: [namespace] }] } } }),
      });
      const path = join(dirs.root, 'alice');
      await mkdir(path);
      const secrets = `/api/v1/namespaces/${namespace}/secrets`;
      const secret = (text: string): unknown => ({
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: 'search' },
        stringData: { token: text },
      });
      const config = { token: { $ref: 'secret:search/token' } };
      await workspaces.declare('alice', { directory: { path } }, [], {
        plugins: [{ name: 'one', source: 'one', config }],
      });
      await workspaces.until('alice', ({ plugins }) =>
        expect(plugins[0]).toMatchObject({
          reason: 'ConfigNotDelivered',
          message: expect.stringContaining(`the namespace ${namespace} has no Secret search`) as string,
        }),
      );
      await cluster.call('POST', secrets, { body: secret('hunter2-first') });
      await workspaces.request('alice');
      await workspaces.untilReady('alice');
      const onDisk = async (): Promise<unknown> =>
        JSON.parse(await readFile(join(path, 'plugin-settings/one.json'), 'utf8'));
      expect(await onDisk()).toEqual({ token: 'hunter2-first' });
      await cluster.call('PUT', `${secrets}/search`, { body: secret('hunter2-second') });
      await workspaces.request('alice');
      await eventually(async () => expect(await onDisk()).toEqual({ token: 'hunter2-second' }));
      const status = await workspaces.untilReady('alice');
      expect(JSON.stringify(status)).not.toContain('hunter2');
      expect(JSON.stringify(plugset?.logger.lines)).not.toContain('hunter2');
    });

    await withBackend('docker', (engine) => {
      it('is a container where the operator has given the engine to its namespace, and no other container', async () => {
        const containers = new TestContainers(engine);
        try {
          const own = await containers.create({
            name: `agent-${namespace}`,
            labels: { [MARK]: `${namespace}/alice` },
          });
          await containers.create({ name: `ws-${namespace.slice(-8)}`, labels: {} });
          const engines = [{ name: 'default', address: engine, namespaces: [namespace], containers: ['agent-*'] }];
          const { release } = await start({ settings: () => ({ targets: { docker: { engines } } }) });
          await workspaces.declare('alice', { docker: {} }, ['one', 'two']);
          await workspaces.declare('bob', { docker: { container: `agent-${namespace}` } }, ['one']);
          await workspaces.declare('carol', { docker: { container: `ws-${namespace.slice(-8)}` } }, ['one']);
          // Whoever declares it chooses its id.
          await workspaces.declare('dave', { docker: {} }, ['one'], { id: namespace.slice(-8) });

          await workspaces.untilReady('alice');
          await untilRefused('bob', 'TargetUnproven', /is labelled/);
          await untilRefused('carol', 'TargetNotAllowed', /targets\.docker\.engines, containers/);
          await workspaces.until('dave', ({ conditions }) =>
            expect(findCondition(conditions, 'Ready')).toMatchObject({ reason: 'WorkspaceNotFound' }),
          );

          const read = (plugin: string) => containers.exec(own, ['cat', `/configs/plugins/${plugin}/SKILL.md`]);
          await containers.exec(own, ['sh', '-c', 'echo edited >/configs/plugins/one/SKILL.md']);
          await eventually(async () => expect(await read('one')).toBe('one\n'));
          await release('two', 'newer\n');
          await eventually(async () => expect(await read('two')).toBe('newer\n'), 90_000);
          await workspaces.declare('alice', { docker: {} }, ['two']);
          await workspaces.untilReady('alice');
          await expect(read('one')).rejects.toThrow(/No such file/);
          await workspaces.delete('alice');
          expect(await containers.exec(own, ['ls', '/configs/plugins'])).toBe('');
        } finally {
          await containers.removeAll();
        }
      });
    });

    await withBackend('machine', () => {
      it('is an EC2 instance where the operator has given the region to its namespace, and no other instance', async () => {
        const aws = await FakeAws.start();
        try {
          const launch = (tags: Record<string, string>) =>
            aws.launch({
              tags,
              users: [
                { name: 'ubuntu', uid: 1000 },
                { name: 'agent', uid: 1500, sudo: false },
              ],
              directories: { '/configs': 1500 },
            });
          const own = await launch({ [MARK]: `${namespace}/alice`, team: 'a' });
          const foreign = await launch({ [MARK]: `${namespace}/bob`, team: 'b' });
          const { accessKeyId, secretAccessKey, sessionToken = '' } = aws.credentials;
          const regions = [{ name: aws.region, namespaces: [namespace], tags: { team: 'a' } }];
          await start({
            settings: () => ({ targets: { ec2: { regions } } }),
            parts: {
              aws: {
                credentials: { accessKeyId, secretAccessKey, sessionToken },
                endpoints: { ec2: aws.url, instanceConnect: aws.url },
                ca: aws.ca,
              },
            },
          });
          await workspaces.declare('alice', { ec2: {} }, ['one', 'two']);
          await workspaces.declare('bob', { ec2: { instanceId: foreign.id } }, ['one']);
          await workspaces.untilReady('alice');
          await untilRefused('bob', 'TargetNotAllowed', /targets\.ec2\.regions, tags/);

          const read = (plugin: string) => own.ssh.machine.exec(['cat', `/configs/plugins/${plugin}/SKILL.md`]);
          await writeFile(`${own.root}/configs/plugins/one/SKILL.md`, 'edited');
          await eventually(async () => expect(await read('one')).toBe('one\n'));
          await workspaces.declare('alice', { ec2: {} }, ['two']);
          await workspaces.untilReady('alice');
          await expect(read('one')).rejects.toThrow(/No such file/);
          await workspaces.delete('alice');
          expect(await own.ssh.machine.exec(['ls', '/configs/plugins'])).toBe('');
          expect(await foreign.ssh.machine.exec(['ls', '/configs'])).toBe('');
        } finally {
          await plugset?.stop();
          plugset = undefined;
          await aws.close();
        }
      });
    });
  });
});
