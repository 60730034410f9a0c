import { linkSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as breathe } from 'node:timers/promises';

import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { writePlugin } from '../support/plugset.ts';
import { startDaemonProcess, until, type DaemonProcess } from './daemon-process.ts';

const PLUGINS = Array.from({ length: 10 }, (_, index) => `plugin-${index}`);
const EDITED = 'plugin-0';
/** Two sources that an edit switches a plugin between. */
const EDITIONS = ['plugin-0', 'edition-b'] as const;

/**
 * Workspaces on directories, declared in a Postgres of their own. The first converges like any other; the rest are copies
 * of it that share its files by hard links, as `cp -al` makes them, each with receipts in its own name.
 */
export class DirectoryFleet {
  readonly database: FreshDatabase;
  readonly #base: string;
  #size = 0;
  #edits = 0;

  static async create(postgres: string): Promise<DirectoryFleet> {
    const base = await realpath(await mkdtemp(join(tmpdir(), 'plugset-fleet-')));
    const fleet = new DirectoryFleet(base, await freshDatabase(postgres));
    for (const plugin of [...PLUGINS, EDITIONS[1]]) {
      await writePlugin(join(base, 'registry', plugin), {
        'plugin.yaml': `version: 1.0.0\ndescription: One of ten\nruntimes: [claude-code]\n`,
        'SKILL.md': `# ${plugin}\n${'A line of a skill, as long as such lines are.\n'.repeat(100)}`,
      });
    }
    await fleet.#convergeFirst();
    return fleet;
  }

  private constructor(base: string, database: FreshDatabase) {
    this.#base = base;
    this.database = database;
  }

  get size(): number {
    return this.#size;
  }

  /** Adds workspaces that are as declared, up to `size`. */
  async growTo(size: number): Promise<void> {
    for (let number = this.#size + 1; number <= size; number++) {
      if (number > 1) this.#copyFirst(number);
      if (number % 100 === 0) await breathe();
    }
    const { sql } = this.database;
    await sql(
      `insert into plugset.workspaces (name, runtime, target)
       select 'fleet-' || n, 'claude-code', jsonb_build_object('directory', jsonb_build_object('path', $3 || n))
         from generate_series($1::int, $2::int) n`,
      [this.#size + 1, size, join(this.#base, 'root', 'fleet-')],
    );
    await sql(
      `insert into plugset.plugins (workspace, name, source)
       select 'fleet-' || n, plugin, plugin from generate_series($1::int, $2::int) n, unnest($3::text[]) plugin`,
      [this.#size + 1, size, PLUGINS],
    );
    await sql('analyze');
    this.#size = size;
  }

  /** A daemon as it is without settings, but for what is named. */
  async start(...settings: readonly string[]): Promise<DaemonProcess> {
    const dir = (name: string): string => join(this.#base, name);
    const places = ['--root', dir('root'), '--registry', dir('registry'), '--cache-dir', dir('cache')];
    return startDaemonProcess({
      database: this.database.url,
      directory: this.#base,
      args: [...places, ...settings],
    });
  }

  async untilAllReady(): Promise<void> {
    await until(`all ${this.#size} are ready`, async () => (await this.#count(`ready = 'True'`)) === this.#size);
  }

  /** Edits the first so many in one statement, which is committed when this resolves. */
  async edit(count: number): Promise<Edit> {
    const source = EDITIONS[++this.#edits % 2];
    const { sql } = this.database;
    const [begun] = await sql<{ at: Date }>('select clock_timestamp() at');
    await sql(
      `update plugset.plugins set source = $1 where name = $2 and substring(workspace from 7)::int between 2 and $3`,
      [source, EDITED, count + 1],
    );
    const rows = () =>
      sql<{ seconds: number }>(
        `select extract(epoch from s.updated_at - $1)::float8 seconds
           from plugset.workspaces w
           join plugset.workspace_status s using (namespace, name)
          where substring(w.name from 7)::int between 2 and $2 and s.updated_at > $1
            and (s.status ->> 'observedGeneration')::int = w.generation
            and s.status -> 'conditions' @> '[{"type": "Ready", "status": "True"}]'`,
        [begun?.at, count + 1],
      );
    return {
      async converged() {
        await until(`${count} edits have converged`, async () => (await rows()).length === count);
        return (await rows()).map(({ seconds }) => seconds * 1000);
      },
    };
  }

  /** Has the daemon find that it may have missed something: it then looks at everybody, and nothing was changed. */
  async loseNotifications(): Promise<void> {
    const cut = await this.database.sql(
      `select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'plugset' and query in ('listen "plugset"', 'select 1')`,
    );
    if (cut.length === 0) throw new Error('nobody listens');
  }

  async close(): Promise<void> {
    await this.database.drop();
    await rm(this.#base, { recursive: true, force: true, maxRetries: 3 });
  }

  async #convergeFirst(): Promise<void> {
    await mkdir(join(this.#base, 'root', 'fleet-1'), { recursive: true });
    await this.growTo(1);
    const daemon = await this.start();
    await this.untilAllReady();
    await daemon.stop();
  }

  async #count(condition: string): Promise<number> {
    const [row] = await this.database.sql<{ count: number }>(
      `select count(*)::int count from plugset.status where ${condition}`,
    );
    return row?.count ?? 0;
  }

  #copyFirst(number: number): void {
    const home = (of: number): string => join(this.#base, 'root', `fleet-${of}`);
    copyTree(home(1), home(number), '', (text) => text.replaceAll('default/fleet-1"', `default/fleet-${number}"`));
  }
}

/** An edit under way. */
export interface Edit {
  /** Waits until every edited workspace is Ready for it; milliseconds from before the statement to each status. */
  converged(): Promise<readonly number[]>;
}

/** What is written in place is copied, a lock shared by all would be one lock; everything else is linked. */
function copyTree(from: string, to: string, below: string, renamed: (text: string) => string): void {
  mkdirSync(join(to, below));
  for (const entry of readdirSync(join(from, below), { withFileTypes: true })) {
    const path = join(below, entry.name);
    if (entry.isDirectory()) copyTree(from, to, path, renamed);
    else if (path.startsWith('.plugset/receipts/') || /^\.plugset\/[^/]+$/.test(path))
      writeFileSync(join(to, path), renamed(readFileSync(join(from, path), 'utf8')));
    else linkSync(join(from, path), join(to, path));
  }
}
