import { createServer, type AddressInfo, type Socket } from 'node:net';
import { once } from 'node:events';

import { expect, onTestFinished, test } from 'vitest';

import { ListenConnection } from '../../../../src/adapters/postgres/listen-connection.ts';
import { PostgresDatabase } from '../../../../src/adapters/postgres/postgres-database.ts';
import { SystemClock } from '../../../../src/adapters/system/clock.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';

test('an abort ends a connection that a silent server lets wait', async () => {
  const sockets: Socket[] = [];
  const server = createServer((socket) => sockets.push(socket.on('error', () => undefined)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const database = new PostgresDatabase({
    connectionString: `postgres://nobody@127.0.0.1:${port}/none`,
    logger: new RecordingLogger(),
    connectTimeoutMs: 3_600_000,
  });
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await database.close();
  });
  const stop = new AbortController();
  const clock = new SystemClock();
  const opening = ListenConnection.open(
    { database, channel: 'plugset', onNotification: () => undefined, clock, heartbeatMs: 3_600_000 },
    stop.signal,
  );
  await once(server, 'connection');
  stop.abort(new Error('the test has seen enough'));
  await expect(opening).rejects.toThrow('the test has seen enough');
});
