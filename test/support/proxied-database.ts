import { PostgresDatabase, type PostgresDatabaseOptions } from '../../src/adapters/postgres/postgres-database.ts';
import { FaultProxy } from './fault-proxy.ts';
import { freshDatabase, type FreshDatabase } from './fresh-database.ts';
import { RecordingLogger } from './recording-logger.ts';

/** A fresh database that what is tested reaches through a network that can be cut, and the test itself directly. */
export interface ProxiedDatabase {
  readonly direct: FreshDatabase;
  readonly network: FaultProxy;
  readonly logger: RecordingLogger;
  /** One more process' pool, through the proxy. Closed by `dispose`. */
  connect(options?: Partial<PostgresDatabaseOptions>): PostgresDatabase;
  dispose(): Promise<void>;
}

export async function proxiedDatabase(serverUrl: string): Promise<ProxiedDatabase> {
  const direct = await freshDatabase(serverUrl);
  const url = new URL(direct.url);
  const network = await FaultProxy.open(`tcp://${url.hostname}:${url.port || 5432}`, 'tcp');
  url.host = new URL(network.address).host;
  const logger = new RecordingLogger();
  const databases: PostgresDatabase[] = [];
  return {
    direct,
    network,
    logger,
    connect: (options) => {
      const database = new PostgresDatabase({ connectionString: url.href, logger, ...options });
      databases.push(database);
      return database;
    },
    dispose: async () => {
      await Promise.all(databases.map((database) => database.close()));
      await network.close();
      await direct.drop();
    },
  };
}
