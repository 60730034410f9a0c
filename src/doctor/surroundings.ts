import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';

import { askDaemon } from '../adapters/telemetry/http-client.ts';
import type { Config, Gathered } from '../config.ts';
import { causeOf } from '../domain/error-code.ts';
import { LEAST_SIGNING_SECRET } from '../domain/secrets.ts';
import type { Clock } from '../ports/clock.ts';
import { VERSION } from '../version.ts';
import { countOf } from '../domain/text.ts';
import { parseWakeUp } from '../domain/wake-up.ts';
import { fail, ok, warn, type Check, type Seen } from './check.ts';
import { secretFile, user } from './files.ts';

/** As package.json asks for; a test compares the two. */
export const NODE_SINCE = [20, 19] as const;
/** Wall clocks that were never set show a time before this was written. */
const WRITTEN_MS = Date.UTC(2026, 0, 1);

export function machineChecks(clock: Clock): readonly Check[] {
  return [
    { name: 'version', look: async () => version(process.versions.node) },
    { name: 'clock', look: async () => wallClock(clock.now()) },
  ];
}

/** `node`: its version. */
export function version(node: string): Seen {
  const [major = 0, minor = 0] = node.split('.').map(Number);
  const seen = `plugset ${VERSION} on Node ${node}, ${process.platform} ${process.arch}, as ${user()}`;
  const isNew = major > NODE_SINCE[0] || (major === NODE_SINCE[0] && minor >= NODE_SINCE[1]);
  return isNew ? ok(seen) : fail(seen, `Install Node ${NODE_SINCE.join('.')} or newer.`);
}

function wallClock(nowMs: number): readonly Seen[] {
  if (nowMs >= WRITTEN_MS) return [];
  const seen = `this machine believes it is ${new Date(nowMs).toISOString()}`;
  return [fail(seen, 'Set its clock (NTP): certificates and signatures go by it.')];
}

export function configurationSeen({ file, origins }: Gathered): Seen {
  const places = [...origins].filter(
    ([path, origin]) => origin !== 'default' && !['apiVersion', 'kind'].includes(path),
  );
  const given = `${countOf(places.length, 'setting')} given`;
  return ok(file === undefined ? `no file; ${given} by flags and variables` : `${file}; ${given}`);
}

/** `authority`: of the store that is configured; rejects where that cannot be read. */
export function outsideChecks(
  config: Config,
  authority: (signal: AbortSignal) => Promise<string | undefined>,
  clock: Clock,
): readonly Check[] {
  const { webhook, listen } = config;
  return [
    { name: 'daemon', look: (signal) => daemon(listen, authority, clock, signal) },
    ...(webhook === undefined
      ? []
      : [{ name: 'webhook', look: (signal: AbortSignal) => webhookLook(webhook, signal) }]),
  ];
}

/** What is answered says whose controller leads there, whatever workspace is asked about. */
const ANY_WAKE_UP = '/wakeup?workspace=default%2Fany';

/** The daemon of this machine, if it is one that has a daemon. */
async function daemon(
  listen: Config['listen'],
  authority: (signal: AbortSignal) => Promise<string | undefined>,
  clock: Clock,
  signal: AbortSignal,
): Promise<Seen> {
  const [live, ready, wakeUp] = await Promise.all(
    ['/livez?verbose', '/readyz?verbose', ANY_WAKE_UP].map((path) => askDaemon(listen, path, clock, signal)),
  );
  const at = `${listen.host}:${listen.port}`;
  if (live === undefined || ready === undefined) return ok(`nobody answers at ${at}; it may run on another machine`);
  const theirs = wakeUp === undefined ? undefined : parseWakeUp(wakeUp.body)?.authority;
  // Of a store that cannot be read nobody knows which one it is; its own check says why.
  const ours = await authority(signal).catch(() => theirs);
  if (theirs !== undefined && theirs !== ours)
    return warn(
      `the one at ${at} belongs to another store (authority ${theirs}; this store's: ${ours ?? 'none yet'})`,
      'Run doctor with the options of the daemon; two on one machine need a telemetry.listen each.',
    );
  const problems = [live, ready].flatMap(({ body }) => body.split('\n').filter((line) => line.startsWith('[-]')));
  if (live.status === 200 && ready.status === 200) {
    const whose = theirs === undefined ? '; it does not lead, so it does not say of which store it is' : '';
    return ok(`the one at ${at} is alive and ready${whose}`);
  }
  const seen = `the one at ${at} is not well: ${problems.join('; ') || `HTTP ${live.status}, ${ready.status}`}`;
  return fail(
    seen,
    'Put right what it names, and read its log; starting it again helps only where one of its loops is silent.',
  );
}

async function webhookLook(
  { url, secretFile: path }: NonNullable<Config['webhook']>,
  signal: AbortSignal,
): Promise<readonly Seen[]> {
  const secret = await secretFile(path, 'notifications.webhook.secretFile', async () =>
    (await readFile(path, 'utf8')).trim().length >= LEAST_SIGNING_SECRET
      ? ok(`${path} holds the secret that signs`)
      : fail(
          `${path} holds less than ${LEAST_SIGNING_SECRET} characters`,
          'Put a longer secret there: openssl rand -hex 32.',
        ),
  );
  return [...secret, await reaches(new URL(url), signal)];
}

/** Connects and says nothing: a test message would be one. */
async function reaches({ protocol, hostname, port, origin }: URL, signal: AbortSignal): Promise<Seen> {
  const to = { host: hostname.replaceAll(/^\[|\]$/g, ''), port: Number(port || (protocol === 'https:' ? 443 : 80)) };
  const socket = connect({ ...to, signal });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return ok(`${origin} takes connections`);
  } catch (error) {
    signal.throwIfAborted();
    return warn(
      `${origin} takes no connection (${causeOf(error)})`,
      'Start the receiver, or correct notifications.webhook.url.',
    );
  } finally {
    socket.destroy();
  }
}
