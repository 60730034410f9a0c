import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';

/**
 * Below those that the kernel hands out by itself, and given to nobody else for as long as this process lives: between here and
 * the start of whoever is to listen there, another test could be given the same one.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 30_000);
    // Only Linux has such names; elsewhere luck has to do.
    if (process.platform === 'linux') {
      const reservation = await listening(createServer(), `\0plugset-test-port-${port}`);
      if (reservation === undefined) continue;
      reservation.unref();
    }
    const server = await listening(createServer(), port);
    if (server === undefined) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

/** `at`: a port of the loopback, or a name that Linux frees when its process ends. `undefined`: it is taken. */
async function listening(server: Server, at: number | string): Promise<Server | undefined> {
  if (typeof at === 'number') server.listen(at, '127.0.0.1');
  else server.listen(at);
  try {
    await once(server, 'listening');
    return server;
  } catch {
    return undefined;
  }
}
