import { setTimeout as pause } from 'node:timers/promises';

import pg from 'pg';

/** One workspace, as the view plugset.status and the newest entry of its history have it. */
interface Row {
  readonly name: string;
  readonly ready: string;
  readonly reason: string;
  readonly message: string | null;
  readonly summary: string | null;
  /** Whether the report is about what is declared now. */
  readonly is_current: boolean;
  readonly is_deleting: boolean;
  readonly last: { readonly summary: string; readonly outcome: string; readonly lastAt: string } | null;
}

const SQL = `
  select s.name, s.ready, s.reason, s.message, s.summary, s.reason like 'Deleting%' as is_deleting,
         coalesce((condition -> 'observedGeneration')::bigint = s.generation, false) as is_current,
         w.status -> 'history' -> 0 as last
    from plugset.status s
    left join plugset.workspace_status w using (namespace, name)
    left join lateral jsonb_path_query_first(w.status, '$.conditions[*] ? (@.type == "Ready")') condition on true
   order by s.name`;

const INTERVAL_MS = 150;
const COLUMNS = { TIME: 8, NAME: 6, READY: 7, REASON: 20, PLUGINS: 7, 'WHAT HAPPENED': 0 } as const;
const COLORS: Readonly<Record<string, number>> = { True: 32, False: 31, Unknown: 33 };

/** Prints a row for every change that plugset reports. */
export class Watcher {
  readonly #client: pg.Client;
  #rows: ReadonlyMap<string, Row> = new Map();
  readonly #done = new Map<string, number>();

  constructor(url: string) {
    this.#client = new pg.Client({ connectionString: url });
    this.#client.on('error', () => undefined);
  }

  async open(): Promise<void> {
    await this.#client.connect();
    console.log(formatRow(Object.keys(COLUMNS)));
  }

  /** Rejects when `signal` aborts, and when the database goes away. */
  async watch(signal: AbortSignal): Promise<never> {
    for (;;) {
      await this.#look();
      await pause(INTERVAL_MS, undefined, { signal });
    }
  }

  isReady(name: string): boolean {
    const row = this.#rows.get(name);
    return row !== undefined && row.is_current && row.ready === 'True';
  }

  /** How often something was done in this workspace, as far as a row of it was printed. */
  timesDone(name: string): number {
    return this.#done.get(name) ?? 0;
  }

  async query(sql: string, values: readonly unknown[] = []): Promise<void> {
    await this.#client.query(sql, [...values]);
  }

  close(): Promise<void> {
    return this.#client.end();
  }

  async #look(): Promise<void> {
    const { rows } = await this.#client.query<Row>(SQL);
    const before = this.#rows;
    this.#rows = new Map(rows.map((row) => [row.name, row]));
    for (const row of rows) {
      const shown = cellsOf(row, before.get(row.name));
      if (shown === undefined) continue;
      console.log(formatRow([clock(), ...shown]));
      if (row.last?.lastAt !== before.get(row.name)?.last?.lastAt) this.#count(row.name);
    }
    for (const name of before.keys()) {
      if (this.#rows.has(name)) continue;
      console.log(formatRow([clock(), name, '-', 'Deleted', '-', 'its target is clean']));
      this.#count(name);
    }
  }

  #count(name: string): void {
    this.#done.set(name, this.timesDone(name) + 1);
  }
}

/** `undefined`: nothing that a person would want to see has changed. */
function cellsOf(row: Row, before: Row | undefined): readonly string[] | undefined {
  const done = row.last === null || row.last.lastAt === before?.last?.lastAt ? undefined : whatHappened(row.last);
  const cells = stateOf(row);
  const isSame = before !== undefined && stateOf(before).join() === cells.join();
  if (isSame && done === undefined) return undefined;
  return done === undefined ? cells : [...cells.slice(0, -1), done];
}

/** Name, readiness, reason, plugins, and the message of what is not well. */
function stateOf(row: Row): readonly string[] {
  const plugins = row.summary ?? '-';
  if (row.is_deleting) return [row.name, 'False', 'Deleting', plugins, ''];
  if (!row.is_current) return [row.name, 'Unknown', 'Progressing', plugins, ''];
  return [row.name, row.ready, row.reason, plugins, row.ready === 'True' ? '' : (row.message ?? '')];
}

function whatHappened({ summary, outcome }: NonNullable<Row['last']>): string {
  return outcome === 'Unknown' ? `${summary}, and nobody knows yet what came of it` : summary;
}

function clock(): string {
  return new Date().toTimeString().slice(0, 8);
}

function formatRow(cells: readonly string[]): string {
  const hasColor = process.stdout.isTTY && process.stdout.hasColors();
  const widths = Object.values(COLUMNS);
  const padded = cells.map((cell, column) => {
    const color = COLORS[cell];
    const text = cell.replaceAll(/\p{Cc}+/gu, ' ').padEnd(widths[column] ?? 0);
    return color === undefined || !hasColor ? text : `\u001b[${color}m${text}\u001b[39m`;
  });
  return padded.join('  ').trimEnd();
}
