import { createHmac } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { rootCertificates } from 'node:tls';

import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';

export interface Post {
  readonly url: URL;
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Certificates (PEM) that are trusted besides those that Node brings. */
  readonly ca: string | undefined;
}

const REQUEST_DEADLINE_MS = 10_000;

/** `t=<Unix seconds>,v1=<hex>`: HMAC-SHA256 over `<Unix seconds>.<body>`, so that an old message cannot be sent again. */
export function signatureOf(secret: string, unixSeconds: number, body: string): string {
  const hex = createHmac('sha256', secret).update(`${unixSeconds}.${body}`).digest('hex');
  return `t=${unixSeconds},v1=${hex}`;
}

/**
 * Posts once and answers the status; what stands in the answer is not read. Follows no redirect: the signature is meant
 * for one receiver. Rejects with Node's error, or that of the deadline.
 */
export async function post({ url, body, headers, ca }: Post, clock: Clock, signal: AbortSignal): Promise<number> {
  const deadline = new Deadline(clock, REQUEST_DEADLINE_MS, signal);
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
  try {
    const answer = new Promise<number>((resolve, reject) => {
      const request = send(url, {
        method: 'POST',
        // A connection of its own: there is seldom anything to say.
        agent: false,
        headers: { ...headers, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
        // Whatever NODE_TLS_REJECT_UNAUTHORIZED says.
        rejectUnauthorized: true,
        ...(ca === undefined ? {} : { ca: [...rootCertificates, ca] }),
      });
      deadline.onEnd(() => request.destroy());
      request.on('error', reject);
      request.on('response', (response) => {
        resolve(response.statusCode ?? 0);
        request.destroy();
      });
      request.end(body);
    });
    return await deadline.race(answer);
  } finally {
    deadline.clear();
  }
}
