import { createHmac } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import {
  createServer as createHttpServer,
  type IncomingHttpHeaders,
  type RequestListener,
  type Server,
} from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { LISTED, type Message } from '../../../../src/adapters/webhook/message.ts';
import { WebhookNotifier, type WebhookSettings } from '../../../../src/adapters/webhook/webhook-notifier.ts';
import type { WorkspaceKey } from '../../../../src/domain/name.ts';
import type { Stand, Transition } from '../../../../src/domain/transition.ts';
import { hasOpenssl, TestAuthority } from '../../../support/authority.ts';
import { eventually } from '../../../support/eventually.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';
import { recordingMetrics } from '../../../support/recording-metrics.ts';
import { tempDir } from '../../../support/temp-dir.ts';

const SECRET = 'a secret that is long enough';

interface Received {
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly message: Message;
}

type Reply = 'hang' | 'cut' | number;

/** A receiver that answers as it is told to, one reply after the other, and the last one from then on. */
class Receiver {
  readonly received: Received[] = [];
  requests = 0;
  replies: Reply[] = [200];
  readonly server: Server;

  constructor(tls?: { readonly key: string; readonly cert: string }) {
    const listen: RequestListener = (request, response) => {
      const reply = (this.replies.length > 1 ? this.replies.shift() : this.replies[0]) ?? 200;
      this.requests += 1;
      let body = '';
      request.on('data', (chunk: Buffer) => (body += chunk.toString()));
      request.on('end', () => {
        if (reply === 'hang') return;
        if (reply === 'cut') return void request.socket.destroy();
        if (reply < 300) {
          this.received.push({ headers: request.headers, body, message: JSON.parse(body) as Message });
        }
        // An answer that never ends keeps nobody waiting.
        response.writeHead(reply, reply >= 300 && reply < 400 ? { location: '/elsewhere' } : {});
        response.write('whatever');
      });
    };
    this.server = tls === undefined ? createHttpServer(listen) : createHttpsServer(tls, listen);
  }

  async listen(host = '127.0.0.1'): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, host, resolve));
    const { port } = this.server.address() as AddressInfo;
    return `${'cert' in this.server ? 'https' : 'http'}://127.0.0.1:${port}/hook`;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

const ready: Stand = { standing: 'Ready', reason: 'Succeeded' };
const down: Stand = { standing: 'NotReady', reason: 'Unreachable' };

function transition(name: string, from: Stand | undefined, to: Stand, more: Partial<Transition> = {}): Transition {
  return {
    workspace: `default/${name}` as WorkspaceKey,
    from,
    to,
    message: `engine default does not answer ${name}`,
    since: '2026-01-01T00:00:00.000Z',
    summary: '1/2',
    plugins: [],
    ...more,
  };
}

describe('the webhook', () => {
  let clock: FakeClock;
  let logger: RecordingLogger;
  let metrics: ReturnType<typeof recordingMetrics>;
  let receiver: Receiver;
  let settings: WebhookSettings;
  let wanted: 'webhook' | undefined;
  let notifier: WebhookNotifier;

  const create = (): WebhookNotifier =>
    new WebhookNotifier({ settings: () => wanted && settings, clock, logger, metrics });
  const tell = (...transitions: readonly Transition[]): void => {
    for (const one of transitions) notifier.notify(one, 'the-authority');
  };
  const outcomes = (): readonly unknown[] => metrics.argsOf('notified').map(([outcome]) => outcome);
  /** Time goes on: slowly, since a request that takes real time must not look like one that hangs. */
  const untilSeen = <T>(check: () => T): Promise<T> =>
    eventually(async () => {
      await clock.advance(100);
      return check();
    });
  const untilReceived = async (count: number): Promise<readonly Message[]> => {
    await clock.advance(30_000);
    return untilSeen(() => {
      expect(receiver.received.length).toBe(count);
      return receiver.received.map(({ message }) => message);
    });
  };

  beforeEach(async () => {
    clock = new FakeClock();
    wanted = 'webhook';
    logger = new RecordingLogger();
    metrics = recordingMetrics();
    receiver = new Receiver();
    const secretFile = join(await tempDir(), 'secret');
    await writeFile(secretFile, `${SECRET}\n`);
    const on = ['Ready', 'NotReady', 'Stalled'] as const;
    settings = { url: await receiver.listen(), secretFile, caFile: undefined, groupWindowMs: 30_000, on };
    notifier = create();
  });

  afterEach(async () => {
    receiver.replies = [503];
    await notifier.close();
    await receiver.close();
    expect(clock.pendingTimers).toBe(0);
  });

  it('is told once of many workspaces with one cause, when the window ends', async () => {
    tell(transition('alice', ready, down), transition('bob', undefined, down), transition('carol', down, ready));
    await clock.advance(29_000);
    expect(receiver.requests).toBe(0);
    const [first, second] = await untilReceived(2);
    expect(first).toMatchObject({
      version: 1,
      authority: 'the-authority',
      event: 'NotReady',
      reason: 'Unreachable',
      help: expect.stringMatching(/^Check that the engine/),
      text: '2 workspaces not as declared (Unreachable): default/alice, default/bob',
      count: 2,
      workspaces: [
        {
          namespace: 'default',
          name: 'alice',
          from: { event: 'Ready', reason: 'Succeeded' },
          to: { event: 'NotReady', reason: 'Unreachable' },
          message: 'engine default does not answer alice',
          since: '2026-01-01T00:00:00.000Z',
        },
        { name: 'bob', from: null },
      ],
    });
    expect(second).toMatchObject({ event: 'Ready', count: 1, workspaces: [{ name: 'carol' }] });
    await eventually(() => expect(outcomes()).toEqual(['sent', 'sent']));
  });

  it('hears nothing of what was undone within the window, nor of what it did not ask for', async () => {
    tell(transition('alice', ready, down), transition('alice', down, ready));
    tell(transition('bob', ready, { standing: 'Idle', reason: 'Suspended' }));
    tell(transition('carol', ready, down), transition('carol', down, { standing: 'Stalled', reason: 'InvalidSource' }));
    const [message] = await untilReceived(1);
    expect(message).toMatchObject({
      event: 'Stalled',
      workspaces: [{ name: 'carol', from: { event: 'Ready' }, to: { event: 'Stalled', reason: 'InvalidSource' } }],
    });
  });

  it('can check who it was, and when', async () => {
    tell(transition('alice', ready, down));
    await untilReceived(1);
    const [{ headers, body, message }] = receiver.received as [Received];
    // As a receiver would do it.
    const [, time = '', signature] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers['plugset-signature'])) ?? [];
    expect(createHmac('sha256', SECRET).update(`${time}.`).update(body).digest('hex')).toBe(signature);
    expect(Math.abs(Number(time) - clock.now() / 1000)).toBeLessThan(120);
    expect(headers).toMatchObject({
      'content-type': 'application/json',
      'plugset-event': 'NotReady',
      'plugset-delivery': message.id,
    });
  });

  it.each<[string, Reply[]]>([
    ['answers 500', [500, 503, 200]],
    ['cuts the connection', ['cut', 'cut', 200]],
    ['hangs', ['hang', 200]],
    ['is told too much', [429, 200]],
  ])('that %s is asked again, later each time, and is told once', async (_what, replies) => {
    receiver.replies = [...replies];
    tell(transition('alice', ready, down));
    await untilReceived(1);
    await eventually(() => expect(outcomes()).toEqual(['sent']));
    expect(receiver.requests).toBe(replies.length);
    expect(metrics.argsOf('notificationRetried')).toHaveLength(replies.length - 1);
    // An outage is news once, and so is its end.
    expect(logger.at('warn')).toHaveLength(1);
    expect(logger.at('info').map(({ message }) => message)).toEqual(['notifications are delivered again']);
  });

  it.each([302, 400, 404])('that answers %d is not asked again, and what comes next is sent', async (status) => {
    receiver.replies = [status, 200];
    tell(transition('alice', ready, down), transition('bob', down, ready));
    const [message] = await untilReceived(1);
    expect(message).toMatchObject({ event: 'Ready' });
    await eventually(() => expect(outcomes()).toEqual(['refused', 'sent']));
    expect(receiver.requests).toBe(2);
    expect(logger.at('error')).toHaveLength(1);
    expect(JSON.stringify(logger.lines)).not.toContain('/hook');
  });

  it('is told of 10,000 workspaces in one message of bounded size', async () => {
    const plugins = Array.from({ length: 30 }, (_, i) => ({
      name: `p${i}` as never,
      state: 'Unknown' as const,
      reason: 'Unreachable' as const,
      message: 'm'.repeat(1000),
    }));
    const many = Array.from({ length: 10_000 }, (_, i) =>
      transition(`w${i}`, ready, down, { message: 'x'.repeat(1000), plugins }),
    );
    tell(...many);
    const [message] = await untilReceived(1);
    expect(message).toMatchObject({ count: 10_000 });
    expect(message?.workspaces).toHaveLength(LISTED);
    expect(message?.workspaces[0]?.plugins).toHaveLength(20);
    expect(receiver.received[0]?.body.length).toBeLessThan(2 * 1024 * 1024);
  });

  it('that is away costs a bounded number of messages, and the oldest go first', async () => {
    receiver.replies = [503];
    for (let i = 0; i < 150; i++) {
      tell(transition(`w${i}`, ready, down));
      await clock.advance(30_000);
    }
    expect(outcomes().length).toBeGreaterThanOrEqual(48);
    expect(new Set(outcomes())).toEqual(new Set(['dropped']));
    receiver.replies = [200];
    await clock.advance(300_000);
    await untilSeen(() => expect(receiver.received.at(-1)?.message.workspaces[0]?.name).toBe('w149'));
    expect(new Set(receiver.received.map(({ message }) => message.id)).size).toBeLessThanOrEqual(101);
  });

  it('is told at the end what was still gathered', async () => {
    tell(transition('alice', ready, down));
    await notifier.close();
    expect(receiver.received).toHaveLength(1);
    tell(transition('bob', ready, down));
    await clock.advance(60_000);
    expect(receiver.requests).toBe(1);
  });

  it('that hangs holds up the end for seconds only', async () => {
    receiver.replies = ['hang'];
    tell(transition('alice', ready, down), transition('bob', down, ready));
    const closing = notifier.close();
    await eventually(() => expect(receiver.requests).toBe(1));
    await clock.advance(5_000);
    await closing;
    expect(outcomes()).toEqual(['dropped', 'dropped']);
  });

  it('is tried again when its secret can be read; a short one is none', async () => {
    const { secretFile } = settings;
    await writeFile(secretFile, 'short');
    tell(transition('alice', ready, down));
    await clock.advance(30_000);
    await untilSeen(() => expect(logger.at('warn')).toHaveLength(1));
    expect(String(logger.at('warn')[0]?.fields['error'])).toContain('less than 16 characters');
    await writeFile(secretFile, SECRET);
    await untilReceived(1);
  });

  it('that nobody names any more is told nothing, and what waited is dropped', async () => {
    receiver.replies = [503];
    tell(transition('alice', ready, down));
    await clock.advance(30_000);
    await untilSeen(() => expect(receiver.requests).toBeGreaterThan(0));
    wanted = undefined;
    await untilSeen(() => expect(outcomes()).toEqual(['dropped']));
    tell(transition('bob', ready, down));
    expect(clock.pendingTimers).toBe(0);
  });

  describe.skipIf(!hasOpenssl() && process.env['CI'] !== 'true')('over TLS', () => {
    it('is believed when the CA file of the configuration vouches for it, and not otherwise', async () => {
      const authority = await TestAuthority.create();
      const tls = await authority.certify('IP:127.0.0.1');
      const secure = new Receiver(tls);
      try {
        settings = { ...settings, url: await secure.listen() };
        tell(transition('alice', ready, down));
        await clock.advance(30_000);
        await untilSeen(() => expect(logger.at('warn')).toHaveLength(1));
        expect(secure.requests).toBe(0);
        settings = { ...settings, caFile: authority.caFile };
        await untilSeen(() => expect(secure.received).toHaveLength(1));
      } finally {
        await secure.close();
      }
    });
  });
});
