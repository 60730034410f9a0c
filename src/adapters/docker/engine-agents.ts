import { setMaxListeners } from 'node:events';
import { Agent, type ClientRequest } from 'node:http';
import type { Duplex } from 'node:stream';
import { inspect } from 'node:util';

import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { StreamDialer } from '../../ports/stream-dialer.ts';

/** The kernel asks a silent peer after this time, and gives it up ten seconds later: a stream of events is silent for hours. */
const KEEP_ALIVE_MS = 15_000;
/** Each takes a channel from those who share the connection to the host. */
const IDLE_STREAMS = 4;
/** Longer than a login may take, and than a host is waited for that has no room. */
const DIAL_TIMEOUT_MS = 60_000;

/** Connections to an engine at an address of this machine or of the network. */
export class EngineAgent extends Agent {
  constructor() {
    super({ keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS });
  }

  /** docker-modem prints all options of a request for its debug log, wanted or not; an agent with sockets is 2 ms of that. */
  [inspect.custom](): string {
    return 'EngineAgent';
  }
}

/** No connection came about: for certain nothing was asked. */
export class NotConnected extends Error {
  constructor(cause: unknown) {
    super('there was no connection', { cause });
  }
}

/** The stream is looked at only where there is no error. */
type Done = (error: Error | null, stream: Duplex) => void;

/** Connections to an engine that somebody else makes, and that need not be sockets. */
export class DialledAgent extends EngineAgent {
  readonly #dialer: StreamDialer;
  readonly #clock: Pick<Clock, 'setTimer'>;
  readonly #closing = new AbortController();

  constructor(dialer: StreamDialer, clock: Pick<Clock, 'setTimer'>) {
    super();
    this.#dialer = dialer;
    this.#clock = clock;
    this.maxFreeSockets = IDLE_STREAMS;
    // Every connection that is being made wants to know.
    setMaxListeners(0, this.#closing.signal);
  }

  /** Made for whoever asks next, not for the request that needs it now: that one may give up, and the connection is kept. */
  override createConnection(_options: object, done: Done): undefined {
    void this.#dial(done);
  }

  async #dial(done: Done): Promise<void> {
    let stream: Duplex | undefined;
    let failure: Error | null = null;
    const deadline = new Deadline(this.#clock, DIAL_TIMEOUT_MS, this.#closing.signal);
    try {
      stream = await this.#dialer.dial(deadline.signal);
    } catch (error) {
      failure = new NotConnected(error);
    } finally {
      deadline.clear();
    }
    done(failure, stream as Duplex);
  }

  /** What Node's own does goes for sockets only; whether the other side is there is seen to by the dialer. */
  override keepSocketAlive(): boolean {
    return true;
  }

  /** Node's own takes the listener off that waited with an idle stream; it goes for sockets otherwise. */
  override reuseSocket(stream: Duplex, request: ClientRequest): void {
    super.reuseSocket(Object.assign(stream, { ref: () => stream }), request);
  }

  override destroy(): void {
    this.#closing.abort(new Error('the engine is not asked any more'));
    super.destroy();
  }
}
