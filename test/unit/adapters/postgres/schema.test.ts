import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { withBackend } from '../../../support/backend.ts';
import { freshDatabase, type FreshDatabase } from '../../../support/fresh-database.ts';

const ALICE = `insert into plugset.workspaces (name, runtime, target) values ('alice', 'claude-code', '{"docker": {}}')`;
const SUPERPOWERS = `insert into plugset.plugins (workspace, name, source) values ('alice', 'superpowers', 'github://obra/superpowers#v4.1.0')`;

interface Counters {
  readonly generation: number;
  readonly dirty: number;
  readonly declared: number;
}

await withBackend('postgres', (address) =>
  describe('the schema that people write with psql', () => {
    let fresh: FreshDatabase;
    const sql: FreshDatabase['sql'] = (...args) => fresh.sql(...args);

    beforeEach(async () => {
      fresh = await freshDatabase(address);
    });
    afterEach(() => fresh.drop());

    async function anotherClient(): Promise<pg.Client> {
      const client = new pg.Client({ connectionString: fresh.url });
      await client.connect();
      return client;
    }

    async function counters(name = 'alice'): Promise<Counters> {
      const [row] = await sql<{ generation: number; dirty: number; declared: number }>(
        `select generation::int, dirty::int, extract(epoch from declared_at)::float8 as declared from plugset.workspaces where name = $1`,
        [name],
      );
      if (row === undefined) throw new Error(`no row for ${name}`);
      return row;
    }

    test('the two shortest inserts are enough', async () => {
      await sql(ALICE);
      await sql(SUPERPOWERS);
      expect(await sql('select namespace, name, ready, reason, generation::int from plugset.status')).toEqual([
        {
          namespace: 'default',
          name: 'alice',
          ready: 'Unknown',
          reason: 'Progressing',
          generation: 2,
        },
      ]);
    });

    describe('counters', () => {
      beforeEach(async () => {
        await sql(`${ALICE}; ${SUPERPOWERS}`);
        await sql(
          `insert into plugset.workspaces (name, runtime, target) values ('bob', 'hermes', '{"external": {}}')`,
        );
      });

      const raisesGeneration: readonly (readonly [string, string])[] = [
        ['a new runtime', `update plugset.workspaces set runtime = 'hermes' where name = 'alice'`],
        [
          'other coordinates of the target',
          `update plugset.workspaces set target = '{"docker": {"container": "c"}}' where name = 'alice'`,
        ],
        ['a policy', `update plugset.workspaces set policy = '{"drift": "Warn"}' where name = 'alice'`],
        ['suspend', `update plugset.workspaces set suspend = true where name = 'alice'`],
        ['an id', `update plugset.workspaces set id = 'x' where name = 'alice'`],
        ['one more plugin', `insert into plugset.plugins (workspace, name, source) values ('alice', 'notes', 'notes')`],
        [
          'three more plugins in one statement',
          `insert into plugset.plugins (workspace, name, source) select 'alice', n, n from unnest('{a,b,c}'::text[]) n`,
        ],
        ['another ref', `update plugset.plugins set source = 'github://obra/superpowers#v5'`],
        ['a digest', `update plugset.plugins set digest = 'sha256:' || repeat('0', 64)`],
        ['a config', `update plugset.plugins set config = '{"a": 1}'`],
        ['another name', `update plugset.plugins set name = 'powers'`],
        ['a plugin less', `delete from plugset.plugins`],
        [
          'several edits in one transaction',
          `update plugset.workspaces set runtime = 'x' where name = 'alice'; delete from plugset.plugins; ${SUPERPOWERS}`,
        ],
        [
          'a generation raised by hand',
          `update plugset.workspaces set generation = generation + 1 where name = 'alice'`,
        ],
      ];
      test.each(raisesGeneration)('%s raises generation by one, dirty and the time', async (_title, edit) => {
        const [before, bob] = [await counters(), await counters('bob')];
        await sql(edit);
        const after = await counters();
        expect(after.generation).toBe(before.generation + 1);
        expect(after.dirty).toBeGreaterThan(before.dirty);
        expect(after.declared).toBeGreaterThan(before.declared);
        expect(await counters('bob')).toEqual(bob);
      });

      const raisesDirty: readonly (readonly [string, string])[] = [
        [
          'an annotation',
          `update plugset.workspaces set annotations = '{"plugset.dev/requestedAt": "now"}' where name = 'alice'`,
        ],
        ['a label', `update plugset.workspaces set labels = '{"org": "acme"}' where name = 'alice'`],
      ];
      test.each(raisesDirty)('%s raises dirty and nothing else', async (_title, edit) => {
        const before = await counters();
        await sql(edit);
        const after = await counters();
        expect(after).toEqual({ ...before, dirty: after.dirty });
        expect(after.dirty).toBeGreaterThan(before.dirty);
      });

      const changesNothing: readonly (readonly [string, string])[] = [
        [
          'an update to the same values',
          `update plugset.workspaces set runtime = runtime, target = '{ "docker" : { } }', labels = '{}' where name = 'alice'`,
        ],
        ['an update of plugins to the same values', `update plugset.plugins set source = source`],
        ['an upsert that finds its row', `${SUPERPOWERS} on conflict do nothing`],
        ['a delete that finds nothing', `delete from plugset.plugins where name = 'nothing'`],
        [
          'counters set by hand',
          `update plugset.workspaces set generation = 1, dirty = 999, declared_at = 'epoch', created_at = 'epoch', changed_in = '1'`,
        ],
        [
          'a rolled back edit',
          `begin; update plugset.workspaces set runtime = 'x'; delete from plugset.plugins; rollback`,
        ],
      ];
      test.each(changesNothing)('%s changes no counter', async (_title, edit) => {
        const before = await counters();
        await sql(edit);
        expect(await counters()).toEqual(before);
      });

      test('a plugin that moves to another workspace is an edit of both', async () => {
        const [alice, bob] = [await counters(), await counters('bob')];
        await sql(`update plugset.plugins set workspace = 'bob'`);
        expect((await counters()).generation).toBe(alice.generation + 1);
        expect((await counters('bob')).generation).toBe(bob.generation + 1);
      });

      test('an edit after a rolled back savepoint is counted once', async () => {
        const before = await counters();
        await sql(
          `begin; savepoint s; update plugset.workspaces set runtime = 'x'; rollback to s; update plugset.workspaces set runtime = 'y'; commit`,
        );
        expect((await counters()).generation).toBe(before.generation + 1);
      });
    });

    describe('what is refused at once, and by which words', () => {
      const insert = (columns: string, values: string): string =>
        `insert into plugset.workspaces (name, runtime, target${columns}) values ('w', 'r', '{"external": {}}'${values})`;
      const target = (json: string): string =>
        `insert into plugset.workspaces (name, runtime, target) values ('w', 'r', '${json}')`;
      const name = (text: string): string =>
        `insert into plugset.workspaces (name, runtime, target) values (${text}, 'r', '{"external": {}}')`;
      const plugin = (columns: string, values: string): string =>
        `${ALICE}; insert into plugset.plugins (workspace, name, source${columns}) values ('alice', ${values})`;
      const NAME = 'name_is_lower_case_letters_digits_dot_underscore_hyphen';
      const TARGET = 'target_has_exactly_one_of_docker_directory_ssh_ec2_pod_external';
      const KIND = 'kind_of_target_cannot_change';

      const refused: readonly (readonly [string, string])[] = [
        [name(`'Alice'`), NAME],
        [name(`'a b'`), NAME],
        [name(`'..'`), NAME],
        [name(`''`), NAME],
        [name(`E'alice\\n'`), NAME],
        [name(`repeat('a', 129)`), NAME],
        [insert(', namespace', `, 'team/a'`), 'namespace_is_lower_case_letters_digits_dot_underscore_hyphen'],
        [insert(', id', `, '-x'`), 'id_is_letters_digits_dot_underscore_hyphen'],
        [insert(', policy', `, '{"dirft": "Warn"}'`), 'policy_keys_are_the_ones_of_the_comment'],
        [insert(', policy', `, '[]'`), 'policy_is_an_object'],
        [insert(', policy', `, '{"drift": "warn"}'`), 'policy_drift_is_Off_Warn_Enforce'],
        [insert(', policy', `, '{"prune": "Everything"}'`), 'policy_prune_is_Off_Managed_All'],
        [insert(', policy', `, '{"adopt": "Always"}'`), 'policy_adopt_is_Equal_Replace'],
        [insert(', policy', `, '{"mode": "Ask"}'`), 'policy_mode_is_Observe_Plan_Apply'],
        [insert(', policy', `, '{"restart": "Always"}'`), 'policy_restart_is_IfNeeded_Never'],
        [insert(', policy', `, '{"allowEmpty": "yes"}'`), 'policy_allowEmpty_is_true_false'],
        [insert(', policy', `, '{"deletion": null}'`), 'policy_deletion_is_Remove_Orphan'],
        [insert(', labels', `, '["acme"]'`), 'labels_is_an_object'],
        [insert(', annotations', `, '"now"'`), 'annotations_is_an_object'],
        [target('{"dokcer": {}}'), TARGET],
        [target('{}'), TARGET],
        [target('{"docker": {}, "external": {}}'), TARGET],
        [target('{"docker": "ws-alice"}'), TARGET],
        [target('{"docker": null}'), TARGET],
        [target('"docker"'), TARGET],
        [target('["docker"]'), TARGET],
        [
          `insert into plugset.workspaces (name, runtime, target) values ('w', '', '{"external": {}}')`,
          'runtime_has_1_to_128_characters',
        ],
        [
          `insert into plugset.plugins (workspace, name, source) values ('nobody', 'p', 's')`,
          'workspace_must_be_inserted_first',
        ],
        [plugin('', `'Super', 's'`), NAME],
        [plugin('', `'p', ''`), 'source_has_1_to_2048_characters'],
        [plugin(', digest', `'p', 's', 'sha256:ABC'`), 'digest_is_sha256_colon_64_lower_case_hex_digits'],
        [plugin(', config', `'p', 's', '[]'`), 'config_is_an_object'],
        [`${ALICE}; update plugset.workspaces set target = '{"external": {}}'`, KIND],
        [`${ALICE}; update plugset.workspaces set name = 'bob'`, 'name_cannot_change'],
        [`${ALICE}; truncate plugset.workspaces cascade`, 'truncate_is_refused'],
        [`truncate plugset.plugins`, 'truncate_is_refused'],
      ];
      test.each(refused)('%s: %s', async (statement, constraint) => {
        await expect(sql(statement)).rejects.toMatchObject({ constraint });
        expect(await sql('select from plugset.workspaces')).toEqual([]);
      });

      test('the message of a refused change says what to do', async () => {
        await sql(ALICE);
        await expect(sql(`update plugset.workspaces set target = '{"external": {}}'`)).rejects.toThrow(
          'the target of workspace default/alice is docker and cannot become external under the same name; delete the workspace and insert it anew once its target is clean',
        );
      });
    });

    describe('deleting', () => {
      beforeEach(() => sql(`${ALICE}; ${SUPERPOWERS}`));

      const tombstones = (): Promise<{ name: string; generation: number }[]> =>
        sql<{ name: string; generation: number }>('select name, generation::int, manifest from plugset.tombstones');

      test('leaves a tombstone with everything that was declared', async () => {
        const { generation } = await counters();
        expect(await sql(`delete from plugset.workspaces where name = 'alice' returning name`)).toEqual([
          { name: 'alice' },
        ]);
        expect(await sql('select from plugset.plugins')).toEqual([]);
        expect(await tombstones()).toEqual([
          {
            name: 'alice',
            generation: generation + 1,
            manifest: {
              metadata: { namespace: 'default', name: 'alice', labels: {}, annotations: {} },
              spec: {
                runtime: 'claude-code',
                target: { docker: {} },
                policy: {},
                suspend: false,
                plugins: [{ name: 'superpowers', source: 'github://obra/superpowers#v4.1.0' }],
              },
            },
          },
        ]);
        expect(await sql('select name, reason from plugset.status')).toEqual([{ name: 'alice', reason: 'Deleting' }]);
      });

      test('and rolling back leaves none', async () => {
        await sql('begin; delete from plugset.workspaces; rollback');
        expect(await tombstones()).toEqual([]);
        expect((await counters()).generation).toBe(1);
      });

      test('inserting again removes it and goes on counting', async () => {
        await sql('delete from plugset.workspaces');
        await sql(ALICE);
        expect(await tombstones()).toEqual([]);
        expect((await counters()).generation).toBe(3);
        await sql('delete from plugset.workspaces');
        expect(await tombstones()).toMatchObject([{ generation: 4 }]);
      });

      test('in one transaction with inserting again leaves the row', async () => {
        await sql(`begin; delete from plugset.workspaces; ${ALICE}; commit`);
        expect(await tombstones()).toEqual([]);
        expect((await counters()).generation).toBe(3);
      });

      test('another kind of target has to wait until the old one is clean', async () => {
        await sql('delete from plugset.workspaces');
        const external = `insert into plugset.workspaces (name, runtime, target) values ('alice', 'r', '{"external": {}}')`;
        await expect(sql(external)).rejects.toMatchObject({ constraint: 'kind_of_target_cannot_change' });
        expect(await tombstones()).toHaveLength(1);
        await sql('delete from plugset.tombstones');
        await sql(external);
      });

      test('an insert that waits for a delete under way finds its tombstone', async () => {
        const other = await anotherClient();
        await sql('begin');
        await sql('delete from plugset.workspaces');
        const inserted = other.query(ALICE);
        await sql('commit');
        await inserted;
        await other.end();
        expect(await tombstones()).toEqual([]);
        expect((await counters()).generation).toBe(3);
      });

      test('a tombstone that a repeatable read transaction overlooked does not stand in the way of the next delete', async () => {
        const other = await anotherClient();
        await other.query('begin isolation level repeatable read; select 1 from plugset.workspaces');
        await sql('delete from plugset.workspaces');
        await other.query(ALICE);
        await other.query('commit');
        await other.end();
        expect(await tombstones()).toHaveLength(1);
        await sql('delete from plugset.workspaces');
        expect(await tombstones()).toHaveLength(1);
      });
    });

    test('two who edit plugins of one workspace at once are both counted, without a deadlock', async () => {
      await sql(ALICE);
      const clients = await Promise.all([anotherClient(), anotherClient(), anotherClient(), anotherClient()]);
      await Promise.all(
        clients.map(async (client, writer) => {
          for (const n of [0, 1, 2]) {
            await client.query(
              `insert into plugset.plugins (workspace, name, source) values ('alice', 'p-${writer}-${n}', 's')`,
            );
          }
        }),
      );
      await Promise.all(clients.map((client) => client.end()));
      expect((await counters()).generation).toBe(13);
    });

    test('a role that may write the two tables needs nothing else', async () => {
      const role = `platform_${randomBytes(4).toString('hex')}`;
      await sql(`create role ${role}; grant usage on schema plugset to ${role}`);
      await sql(`grant select, insert, update, delete on plugset.workspaces, plugset.plugins to ${role}`);
      await sql(`grant select on plugset.status, plugset.plugin_status to ${role}`);
      await sql(`set role ${role}`);
      await sql(
        `${ALICE}; ${SUPERPOWERS}; update plugset.workspaces set runtime = 'hermes'; delete from plugset.workspaces`,
      );
      expect(await sql('select name from plugset.status')).toEqual([{ name: 'alice' }]);
      await expect(sql('delete from plugset.tombstones')).rejects.toMatchObject({ code: '42501' });
      // Where takeovers and approvals of the operator stand.
      const grant = `insert into plugset.controller_state (key, value, version) values ('takeover/default/alice', '1', 1)`;
      await expect(sql(grant)).rejects.toMatchObject({ code: '42501' });
      await expect(sql('table plugset.controller_state')).rejects.toMatchObject({ code: '42501' });
      await sql(`reset role; drop owned by ${role}; drop role ${role}`);
    });

    test('every table, view and column says what it is for', async () => {
      expect(
        await sql(`
          select c.relname, a.attname
            from pg_class c
            join pg_attribute a on a.attrelid = c.oid and a.attnum >= 0 and not a.attisdropped
           where c.relnamespace = 'plugset'::regnamespace and c.relkind in ('r', 'v')
             and (col_description(c.oid, a.attnum) is null or obj_description(c.oid, 'pg_class') is null)`),
      ).toEqual([]);
    });
  }),
);
