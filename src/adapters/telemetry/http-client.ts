import { get } from 'node:http';

import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';

export interface DaemonAnswer {
  readonly status: number;
  readonly body: string;
}

const DEADLINE_MS = 2_000;
const LONGEST_BODY = 64 * 1024;

/** Asks a daemon's own server (`path` begins with a slash). `undefined`: nobody answers there in time, or too much. */
export async function askDaemon(
  listen: { readonly host: string; readonly port: number },
  path: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<DaemonAnswer | undefined> {
  const deadline = new Deadline(clock, DEADLINE_MS, signal);
  // One that listens on every address is asked on this machine's own.
  const host = ['0.0.0.0', '::'].includes(listen.host) ? '127.0.0.1' : listen.host;
  try {
    const answer = new Promise<DaemonAnswer>((resolve, reject) => {
      const request = get({ host, port: listen.port, path, agent: false });
      deadline.onEnd(() => request.destroy());
      request.on('error', reject);
      request.on('response', (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          body += chunk;
          if (body.length > LONGEST_BODY) request.destroy(new Error('too long'));
        });
        response.on('error', reject);
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      });
    });
    return await deadline.race(answer);
  } catch {
    return undefined;
  } finally {
    deadline.clear();
  }
}
