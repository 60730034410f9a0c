import { createServer, type Server } from 'node:net';
import { join } from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { PrometheusMetrics } from '../../src/adapters/telemetry/prometheus-metrics.ts';
import { findCondition, type ConditionType } from '../../src/domain/condition.ts';
import type { WorkspaceStatus } from '../../src/domain/status.ts';
import { withBackend } from '../support/backend.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { labelValues, lintExposition } from '../support/exposition.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

/** Long enough that nothing in these tests can be the work of a clock: what happens was woken by an event. */
const NEVER = 600_000;

await withBackend('docker', async (engine) => {
  await withBackend('postgres', (serverUrl) => {
    describe('containers declared in Postgres', () => {
      let database: FreshDatabase;
      let plugset: Plugset;
      let containers: TestContainers;
      let hung: Server;

      beforeAll(async () => {
        // An engine that accepts every connection and never answers.
        hung = createServer(() => undefined);
        await new Promise<void>((resolve) => hung.listen(0, '127.0.0.1', resolve));
      });
      afterAll(() => void hung.close());

      beforeEach(async () => {
        database = await freshDatabase(serverUrl);
        containers = new TestContainers(engine);
        const address = hung.address();
        const port = typeof address === 'object' ? address?.port : undefined;
        plugset = await startPlugset({
          store: { kind: 'postgres', url: database.url },
          config: {
            engines: [
              { name: 'default', address: engine },
              { name: 'hung', address: `tcp://127.0.0.1:${port}` },
            ],
            probeIntervalMs: NEVER,
            deepIntervalMs: NEVER,
            workers: 8,
            laneLimit: 3,
            graceMs: 500,
          },
        });
        for (const name of ['one', 'two', 'three']) {
          await writePlugin(join(plugset.dirs.registry, name), {
            'plugin.yaml': `name: ${name}\nversion: 1.0.0\n`,
            'SKILL.md': `${name}\n`,
          });
        }
      });
      afterEach(async () => {
        await plugset.stop();
        await containers.removeAll();
        await database.drop();
      });

      const declare = async (name: string, target: object, plugins: readonly string[], id = name): Promise<void> => {
        const insert = `insert into plugset.workspaces (name, id, runtime, target) values ($1, $2, 'claude-code', $3)`;
        await database.sql(insert, [name, id, target]);
        for (const plugin of plugins) {
          await database.sql(`insert into plugset.plugins (workspace, name, source) values ($1, $2, $2)`, [
            name,
            plugin,
          ]);
        }
      };
      const untilReason = (name: string, type: ConditionType, reason: string): Promise<WorkspaceStatus> =>
        plugset.until(name, (status) => expect(findCondition(status.conditions, type)?.reason).toBe(reason));

      it('stopped, removed, recreated without its volume: waits, waits, and converges again on the engine’s event', async () => {
        const name = 'e2e-walter';
        const start = () => containers.create({ name, labels: { 'plugset.dev/workspace': 'default/walter' } });
        const container = await start();
        await declare('walter', { docker: {} }, ['one', 'two']);
        await plugset.untilReady('walter');
        expect(await containers.exec(container, ['cat', '/configs/plugins/one/SKILL.md'])).toBe('one\n');

        await container.stop({ t: 1 });
        await untilReason('walter', 'Reachable', 'WorkspaceNotRunning');
        await container.remove({ force: true, v: true });
        await untilReason('walter', 'Reachable', 'WorkspaceNotFound');
        const again = await start();
        await plugset.untilReady('walter');
        expect(await containers.exec(again, ['cat', '/configs/plugins/two/SKILL.md'])).toBe('two\n');
      });

      it('refuses a container that nothing ties to the workspace, and takes one by its name rule', async () => {
        await containers.create({ name: 'e2e-somebody' });
        await declare('bob', { docker: { container: 'e2e-somebody' } }, ['one']);
        const refused = await untilReason('bob', 'Ready', 'TargetUnproven');
        expect(findCondition(refused.conditions, 'Stalled')?.status).toBe('True');
        await containers.create({ name: 'ws-carol' });
        await declare('carol', { docker: {} }, ['one']);
        await plugset.untilReady('carol');
      });

      it('two workspaces on one container: the one its receipts name goes on, the other waits until the first is gone', async () => {
        const container = await containers.create({ name: 'ws-shared' });
        await declare('erin', { docker: {} }, ['one'], 'shared');
        await plugset.untilReady('erin');
        await declare('dave', { docker: {} }, ['two'], 'shared');
        await untilReason('dave', 'Ready', 'TargetClaimed');
        expect(await containers.exec(container, ['ls', '/configs/plugins'])).toBe('one\n');
        await database.sql(`delete from plugset.workspaces where name = 'erin'`);
        await plugset.untilReady('dave');
        expect(await containers.exec(container, ['ls', '/configs/plugins'])).toBe('two\n');
      });

      it('two workspaces on one container without a receipt: neither acts', async () => {
        const container = await containers.create({ name: 'ws-twins' });
        await database.sql(`insert into plugset.workspaces (name, id, runtime, target)
          values ('castor', 'twins', 'hermes', '{"docker": {}}'), ('pollux', 'twins', 'hermes', '{"docker": {}}')`);
        await database.sql(`insert into plugset.plugins (workspace, name, source)
          values ('castor', 'one', 'one'), ('pollux', 'two', 'two')`);
        await untilReason('castor', 'Ready', 'TargetClaimed');
        await untilReason('pollux', 'Ready', 'TargetClaimed');
        expect(await containers.exec(container, ['ls', '/configs'])).toBe('');
        await database.sql(`delete from plugset.workspaces where name = 'pollux'`);
        await plugset.untilReady('castor');
      });

      it('two namespaces may each have an walter, with a container of her own each', async () => {
        for (const namespace of ['team-a', 'team-b']) {
          await containers.create({
            name: `e2e-${namespace}`,
            labels: { 'plugset.dev/workspace': `${namespace}/walter` },
          });
        }
        await database.sql(`insert into plugset.workspaces (namespace, name, runtime, target)
          values ('team-a', 'walter', 'hermes', '{"docker": {}}'), ('team-b', 'walter', 'hermes', '{"docker": {}}')`);
        await database.sql(`insert into plugset.plugins (namespace, workspace, name, source)
          values ('team-a', 'walter', 'one', 'one'), ('team-b', 'walter', 'two', 'two')`);
        expect((await plugset.untilReady('team-a/walter')).summary).toBe('1/1');
        expect((await plugset.untilReady('team-b/walter')).summary).toBe('1/1');
      });

      it('an engine that hangs for ever holds up nobody elsewhere', async () => {
        for (let index = 0; index < 12; index++)
          await declare(`stuck-${index}`, { docker: { engine: 'hung' } }, ['one']);
        await containers.create({ name: 'ws-frank' });
        await declare('frank', { docker: {} }, ['one']);
        await plugset.untilReady('frank');
        // Each of them takes ten seconds, and three run at a time: all but the first three have not even had their turn.
        const stuck = await Promise.all(Array.from({ length: 12 }, (_, index) => plugset.status(`stuck-${index}`)));
        expect(stuck.filter((status) => status.conditions.length === 0).length).toBeGreaterThanOrEqual(9);
      });

      it('tells what it asks of engines, and publishes no label value but those that are listed', async () => {
        await containers.create({ name: 'ws-heidi' });
        await declare('heidi', { docker: {} }, ['one']);
        await declare('ivan', { docker: {} }, ['one']);
        await plugset.untilReady('heidi');
        await untilReason('ivan', 'Ready', 'WorkspaceNotFound');
        const body = await (await fetch(`${await plugset.metricsUrl()}/metrics`)).text();
        const { catalogue } = new PrometheusMetrics({ version: '0', perWorkspace: true });
        expect([...lintExposition(body).problems, ...labelValues(body, catalogue).problems]).toEqual([]);
        const count = (request: string, outcome: string): number => {
          const labels = `engine="default",request="${request}",outcome="${outcome}"`;
          return Number(new RegExp(`^plugset_engine_requests_total{${labels}} (\\d+)$`, 'm').exec(body)?.[1]);
        };
        for (const request of ['inspect', 'list', 'exec_create', 'exec_start', 'exec_inspect', 'events'])
          expect(count(request, 'ok'), request).toBeGreaterThan(0);
        expect(count('inspect', 'not_found')).toBeGreaterThan(0);
        // The probe before the first install: there is nothing yet.
        expect(count('stat', 'not_found')).toBeGreaterThan(0);
        expect(count('exec_start', 'error')).toBe(0);
      });

      it('one plugin that cannot be fetched leaves the other two converged, and says why and since when', async () => {
        await containers.create({ name: 'ws-grace' });
        await declare('grace', { docker: {} }, ['one', 'two', 'missing']);
        const status = await plugset.until('grace', (now) => expect(now.summary).toBe('2/3'));
        const row = status.plugins.find((plugin) => plugin.name === 'missing');
        expect(row).toMatchObject({ state: 'Failed', reason: 'PluginNotFound' });
        expect(Date.parse(row?.since ?? '')).toBeGreaterThan(0);
        expect(findCondition(status.conditions, 'Ready')).toMatchObject({ status: 'False', reason: 'PluginNotFound' });
      });
    });
  });
});
