import { terminal, type ReconcileError } from '../../domain/errors.ts';
import type { ControllerState, StateDocument } from '../../ports/controller-state.ts';
import { parseStateKey, encodeStateDocument } from '../../ports/state-document.ts';
import type { PostgresDatabase } from './postgres-database.ts';
import { declinedMessage } from './postgres-fault.ts';

export interface PostgresControllerStateOptions {
  /** Shared with the store; whoever opened it closes it. */
  readonly database: PostgresDatabase;
}

/** Small documents in `plugset.controller_state`. A version is never used twice, so an old writer cannot win by chance. */
export class PostgresControllerState implements ControllerState {
  readonly #database: PostgresDatabase;

  constructor(options: PostgresControllerStateOptions) {
    this.#database = options.database;
  }

  async get(key: string, signal: AbortSignal): Promise<StateDocument | undefined> {
    parseStateKey(key);
    const [row] = await this.#database.query<{ value: unknown; version: string }>(
      'select value, version::text from plugset.controller_state where key = $1',
      [key],
      signal,
    );
    return row;
  }

  async compareAndSwap(
    key: string,
    expected: string | undefined,
    value: unknown,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    parseStateKey(key);
    const text = encodeStateDocument(key, value);
    const [sql, values] = expected === undefined ? [INSERT, [key, text]] : [UPDATE, [key, text, expected]];
    try {
      const [row] = await this.#database.query<{ version: string }>(sql, values, signal);
      return row?.version;
    } catch (error) {
      throw unstorable(key, error);
    }
  }

  async list(folder: string, signal: AbortSignal): Promise<readonly string[]> {
    parseStateKey(folder);
    const rows = await this.#database.query<{ key: string }>(
      `select key from plugset.controller_state where starts_with(key, $1 || '/')`,
      [folder],
      signal,
    );
    return rows.map(({ key }) => key);
  }

  async remove(key: string, expected: string, signal: AbortSignal): Promise<boolean> {
    parseStateKey(key);
    const rows = await this.#database.query(
      'delete from plugset.controller_state where key = $1 and version::text = $2 returning key',
      [key, expected],
      signal,
    );
    return rows.length > 0;
  }
}

const INSERT = `
  insert into plugset.controller_state (key, value, version)
  values ($1, $2::jsonb, nextval('plugset.document_version'))
  on conflict (key) do nothing
  returning version::text`;

const UPDATE = `
  update plugset.controller_state
     set value = $2::jsonb, version = nextval('plugset.document_version'), updated_at = clock_timestamp()
   where key = $1 and version::text = $3
  returning version::text`;

/** jsonb cannot hold U+0000 or half a surrogate pair. */
function unstorable(key: string, error: unknown): ReconcileError {
  const declined = declinedMessage(error);
  if (declined === undefined) return error as ReconcileError;
  return terminal('Internal', `the state document ${key} cannot be stored: ${declined}`, error);
}
