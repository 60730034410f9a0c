import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';

import { LEAST_SIGNING_SECRET } from '../../domain/secrets.ts';
import type { Standing, Transition } from '../../domain/transition.ts';
import { settlesWithin } from '../../ports/abort.ts';
import type { Clock, Timer } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { Notifier } from '../../ports/notifier.ts';
import { Gathering } from './gathering.ts';
import { messageOf, type Message } from './message.ts';
import { post, signatureOf } from './post.ts';

/** Where and what is told. */
export interface WebhookSettings {
  readonly url: string;
  /** File whose content signs; read anew for every try: secrets are rotated. */
  readonly secretFile: string;
  readonly caFile: string | undefined;
  readonly groupWindowMs: number;
  readonly on: readonly Standing[];
}

export interface WebhookNotifierOptions {
  /** Asked anew each time, so that a changed configuration holds at once; `undefined`: nobody wants to be told. */
  readonly settings: () => WebhookSettings | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'notified' | 'notificationRetried'>;
}

const QUEUE_LENGTH = 100;
/** What is older helps nobody any more. */
const LONGEST_AGE_MS = 3_600_000;
const FIRST_BACKOFF_MS = 1_000;
const LONGEST_BACKOFF_MS = 300_000;
const CLOSE_GRACE_MS = 5_000;
/** Other refusals do not become an acceptance by asking again. */
const TRY_AGAIN: ReadonlySet<number> = new Set([408, 425, 429]);

interface Queued {
  readonly message: Message;
  readonly madeAtMs: number;
}

/**
 * Posts what became of workspaces to a webhook: transitions are gathered for a window, grouped by cause, queued, and sent
 * one after the other. Whoever tells never waits for whoever is told; of a queue that runs over the oldest message goes.
 */
export class WebhookNotifier implements Notifier {
  readonly #options: WebhookNotifierOptions;
  readonly #gathering = new Gathering();
  readonly #queue: Queued[] = [];
  readonly #closing = new AbortController();
  readonly #given = new AbortController();
  #authority = '';
  #window: Timer | undefined;
  #sending: Promise<void> | undefined;
  #isOut = false;

  constructor(options: WebhookNotifierOptions) {
    this.#options = options;
  }

  notify(transition: Transition, authority: string): void {
    const settings = this.#options.settings();
    if (settings === undefined || this.#closing.signal.aborted) return;
    this.#authority = authority;
    this.#gathering.add(transition);
    if (this.#gathering.isFull) this.#tell();
    else this.#window ??= this.#options.clock.setTimer(settings.groupWindowMs, () => this.#tell());
  }

  /** Tells at once what was gathered, and gives up what cannot be delivered within seconds. Idempotent. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#tell();
    const sending = this.#sending ?? Promise.resolve();
    if (!(await settlesWithin(sending, CLOSE_GRACE_MS, this.#options.clock))) this.#given.abort();
    await sending;
  }

  /** Ends the window. */
  #tell(): void {
    this.#window?.cancel();
    this.#window = undefined;
    const { clock, settings } = this.#options;
    const at = new Date(clock.now()).toISOString();
    for (const group of this.#gathering.take(settings()?.on ?? [])) {
      const message = messageOf(group, { id: randomUUID(), at, authority: this.#authority });
      this.#queue.push({ message, madeAtMs: clock.monotonic() });
    }
    this.#drop(this.#queue.length - QUEUE_LENGTH);
    if (this.#queue.length > 0) this.#sending ??= this.#sendAll().finally(() => (this.#sending = undefined));
  }

  async #sendAll(): Promise<void> {
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      await this.#deliver(next);
      if (this.#given.signal.aborted) this.#drop(this.#queue.length);
    }
  }

  /** Ends when the message was taken, refused or given up. Never rejects. */
  async #deliver({ message, madeAtMs }: Queued): Promise<void> {
    const { clock, metrics } = this.#options;
    const isWorthwhile = (): boolean => clock.monotonic() - madeAtMs < LONGEST_AGE_MS && !this.#given.signal.aborted;
    for (let failures = 0; isWorthwhile(); failures++) {
      const settings = this.#options.settings();
      if (settings === undefined) break;
      const outcome = await this.#attempt(message, settings);
      if (outcome !== 'failed') return metrics.notified(outcome);
      if (this.#closing.signal.aborted) break;
      metrics.notificationRetried();
      const ceilingMs = Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** failures);
      await clock.sleep(ceilingMs * (0.5 + clock.random() / 2), this.#closing.signal).catch(() => undefined);
    }
    this.#tellDropped(1);
  }

  async #attempt(message: Message, settings: WebhookSettings): Promise<'sent' | 'refused' | 'failed'> {
    const { clock, logger } = this.#options;
    const url = new URL(settings.url);
    try {
      const status = await post(await this.#request(message, url, settings), clock, this.#given.signal);
      if (status >= 200 && status < 300) return this.#sent(url);
      if (status >= 500 || TRY_AGAIN.has(status)) return this.#failed(url, new Error(`HTTP ${status}`));
      const why = status < 400 ? 'a redirect, which is not followed' : 'a refusal, which asking again would not change';
      // Its path may be a secret.
      logger.error(`the webhook answered HTTP ${status}: ${why}`, { to: url.origin, text: message.text });
      return 'refused';
    } catch (error) {
      return this.#failed(url, error);
    }
  }

  async #request(message: Message, url: URL, settings: WebhookSettings): Promise<Parameters<typeof post>[0]> {
    const secret = (await readFile(settings.secretFile, 'utf8')).trim();
    if (secret.length < LEAST_SIGNING_SECRET)
      throw new Error(
        `${settings.secretFile} holds less than ${LEAST_SIGNING_SECRET} characters; a secret that short is none`,
      );
    const ca = settings.caFile === undefined ? undefined : await readFile(settings.caFile, 'utf8');
    const body = JSON.stringify(message);
    const headers = {
      'user-agent': 'plugset',
      'plugset-event': message.event,
      'plugset-delivery': message.id,
      'plugset-signature': signatureOf(secret, Math.floor(this.#options.clock.now() / 1000), body),
    };
    return { url, body, headers, ca };
  }

  #sent(url: URL): 'sent' {
    if (this.#isOut) this.#options.logger.info('notifications are delivered again', { to: url.origin });
    this.#isOut = false;
    return 'sent';
  }

  /** An outage is news once. */
  #failed(url: URL, error: unknown): 'failed' {
    const level = this.#isOut ? 'debug' : 'warn';
    this.#isOut = true;
    this.#options.logger[level]('a notification could not be delivered; it is tried again', { to: url.origin, error });
    return 'failed';
  }

  #drop(count: number): void {
    if (count > 0) this.#tellDropped(this.#queue.splice(0, count).length);
  }

  #tellDropped(messages: number): void {
    for (let i = 0; i < messages; i++) this.#options.metrics.notified('dropped');
    this.#options.logger.warn('notifications were given up', { messages });
  }
}
