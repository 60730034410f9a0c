import type { Readable } from 'node:stream';

import { untilEither } from '../../ports/abort.ts';
import type { Logger } from '../../ports/logger.ts';
import type { DockerEngine } from './engine.ts';

export interface EngineWatch {
  readonly engine: DockerEngine;
  readonly logger: Logger;
  readonly inactivityMs: number;
  /** Its value tells whose a container is. */
  readonly label: string;
  /** Called for every container that stirred, by each of its names. */
  readonly onEvent: (container: { readonly name: string; readonly label?: string | undefined }) => void;
  /** Called when a stream has opened: what happened before may have been missed. */
  readonly onGap: () => void;
  readonly signal: AbortSignal;
}

const ACTIONS = ['create', 'start', 'die', 'stop', 'destroy', 'rename', 'pause', 'unpause'] as const;
const FIRST_BACKOFF_MS = 250;
const LONGEST_BACKOFF_MS = 30_000;
/** A stream that ends sooner was no success: the backoff goes on growing. */
const STABLE_MS = 10_000;
const LONGEST_EVENT_BYTES = 1024 * 1024;

/** Follows the events of one engine, connecting anew whenever the stream ends, until `signal` aborts. Never rejects. */
export async function watchEngine(watch: EngineWatch): Promise<void> {
  const { engine, logger, signal } = watch;
  const { clock } = engine;
  for (let failures = 0; !signal.aborted;) {
    const openedAt = clock.monotonic();
    try {
      await followOnce(watch);
    } catch (error) {
      if (signal.aborted) return;
      const fields = { engine: engine.name, error };
      if (failures === 0) logger.warn('the stream of engine events broke; connecting again until it is back', fields);
      else logger.debug('the stream of engine events could not be opened again', fields);
    }
    failures = clock.monotonic() - openedAt > STABLE_MS ? 0 : failures + 1;
    const backoffMs = Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** failures) * (0.5 + clock.random() / 2);
    await clock.sleep(backoffMs, signal).catch(() => undefined);
  }
}

/** Ends with the stream, or when the engine has gone silent for good. */
async function followOnce(watch: EngineWatch): Promise<void> {
  const { engine, signal } = watch;
  const ended = new AbortController();
  await untilEither(signal, ended.signal, async (until) => {
    try {
      const stream = await engine.call('events', 'follow its events', signal, (docker) =>
        docker.getEvents({ filters: { type: ['container'], event: [...ACTIONS] }, abortSignal: until } as object),
      );
      watch.onGap();
      const heard = { at: engine.clock.monotonic() };
      await Promise.race([readEvents(stream as Readable, watch, heard), failWhenDead(watch, heard, until)]);
    } finally {
      ended.abort();
    }
  });
}

interface Heard {
  /** Monotonic time of the last byte. */
  at: number;
}

function readEvents(stream: Readable, watch: EngineWatch, heard: Heard): Promise<void> {
  return new Promise((resolve, reject) => {
    let pending = '';
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      heard.at = watch.engine.clock.monotonic();
      const lines = (pending + text).split('\n');
      pending = lines.pop() ?? '';
      for (const line of lines) report(line, watch);
      if (pending.length > LONGEST_EVENT_BYTES) stream.destroy(new Error('the engine sent an event without an end'));
    });
    stream.on('error', reject);
    // Comes after `end` and after a connection that broke without a word.
    stream.on('close', resolve);
  });
}

/** A quiet engine and a dead one look alike on the stream, so the engine is asked something that it has to answer. */
async function failWhenDead({ engine, inactivityMs }: EngineWatch, heard: Heard, until: AbortSignal): Promise<never> {
  const { clock } = engine;
  for (;;) {
    await clock.sleep(inactivityMs, until);
    if (clock.monotonic() - heard.at < inactivityMs) continue;
    await engine.call(
      'ping',
      'whether it is alive',
      until,
      (docker, abortSignal) => docker.ping({ abortSignal } as never) as unknown as Promise<unknown>,
    );
  }
}

interface EngineEvent {
  readonly Actor?: { readonly Attributes?: Readonly<Record<string, string>> };
}

function report(line: string, watch: EngineWatch): void {
  const { engine, logger, onEvent } = watch;
  if (line.trim() === '') return;
  let attributes: Readonly<Record<string, string>>;
  try {
    attributes = (JSON.parse(line) as EngineEvent).Actor?.Attributes ?? {};
  } catch (error) {
    return logger.warn('an engine sent an event that is no JSON', { engine: engine.name, error });
  }
  const label = attributes[watch.label];
  // A rename is news for whoever waits under either name.
  for (const name of [attributes['name'], attributes['oldName']]) {
    if (name !== undefined) onEvent({ name: name.replace(/^\//, ''), label });
  }
}
