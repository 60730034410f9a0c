import { PostgresDatabase } from '../../src/adapters/postgres/postgres-database.ts';
import { QueryWorkspaceStore } from '../../src/adapters/postgres/query-workspace-store.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { FILES_DEFAULT_POLICY } from '../../src/domain/workspace.ts';
import { freshDatabase } from '../support/fresh-database.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import type { Backends } from './converged-workspace.ts';
import { median, timed } from './measure.ts';
import { alone, type Row } from './table.ts';

const WORKSPACES = 10_000;
const PLUGINS = 10;
const EDITED = 100;

/** What a platform's own tables cost at every poll. */
export async function benchPlatformRead({ postgres }: Pick<Backends, 'postgres'>): Promise<readonly Row[]> {
  const fresh = await freshDatabase(postgres);
  const logger = new RecordingLogger();
  const database = new PostgresDatabase({ connectionString: fresh.url, logger });
  const { signal } = new AbortController();
  try {
    await fresh.sql(`
      create table public.w (id uuid primary key default gen_random_uuid(), name text, runtime text, container text);
      create table public.p (workspace_id uuid, name text, source text, primary key (workspace_id, name));
      insert into public.w (name, runtime, container)
        select 'fleet-' || n, 'claude-code', 'ws-fleet-' || n from generate_series(1, ${WORKSPACES}) n;
      insert into public.p
        select id, 'plugin-' || n, 'github://acme/plugin-' || n || '#v1.2.3' from public.w, generate_series(1, ${PLUGINS}) n`);
    const store = new QueryWorkspaceStore({
      database,
      queries: {
        workspaces: 'select id, name, runtime, container as docker_container from public.w',
        plugins: 'select workspace_id, name, source from public.p',
      },
      turn: () => ({ authority: 'bench', epoch: 1, n: 1 }),
      defaultPolicy: () => FILES_DEFAULT_POLICY,
      clock: new SystemClock(),
      logger,
      intervalMs: 0,
    });
    const read = (): Promise<number> => timed(() => store.list(signal));
    const firstMs = await read();
    await fresh.sql('vacuum analyze');
    const before = process.cpuUsage();
    const idleMs = median([await read(), await read(), await read()]);
    const { user, system } = process.cpuUsage(before);
    await fresh.sql(
      `update public.p set source = source || 'x' where workspace_id in (select id from public.w limit ${EDITED})`,
    );
    const editedMs = await read();
    await store.close();
    const size = `${WORKSPACES} x ${PLUGINS}`;
    return [
      alone(`tables of a platform, ${size}: first read, all recorded`, firstMs, ''),
      alone(
        `tables of a platform, ${size}: a read without news`,
        idleMs,
        `${((user + system) / 3000).toFixed(0)} ms of our CPU`,
      ),
      alone(`tables of a platform, ${size}: a read with ${EDITED} edited`, editedMs, ''),
    ];
  } finally {
    await database.close();
    await fresh.drop();
  }
}
