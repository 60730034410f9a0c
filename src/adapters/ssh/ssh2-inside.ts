import type { Client, ClientChannel } from 'ssh2';

/** What ssh2 (1.17) keeps and does not show; tried against hosts that make it keep much. */
interface Inside {
  readonly _protocol?: {
    readonly _queue?: readonly Uint8Array[] | undefined;
    /** What is done about a message, by its name. */
    readonly _handlers: Record<'USERAUTH_PK_OK', (...args: never[]) => void>;
  };
  /** Whoever waits for the answer to a global request. */
  readonly _callbacks?: readonly unknown[];
  readonly _chanMgr?: {
    /** By their number here; a function is one that was asked for. */
    readonly _channels: Readonly<Record<number, unknown>>;
    /** The number that was given out last. */
    readonly _cur: number;
  };
}

function insideOf(client: Client): Inside {
  return client as unknown as Inside;
}

/** What is to be sent when the exchange of keys is over. */
export function queuedBytesOf(client: Client): number {
  return (insideOf(client)._protocol?._queue ?? []).reduce((sum, { length }) => sum + length, 0);
}

/** Asks before each signature of a login whether it is to be made. */
export function onSignatureWanted(client: Client, isFine: () => boolean): void {
  const handlers = insideOf(client)._protocol?._handlers;
  if (handlers === undefined) return;
  const { USERAUTH_PK_OK: sign } = handlers;
  handlers.USERAUTH_PK_OK = (...args) => {
    if (isFine()) sign(...args);
  };
}

/** Global requests of ours that the host has not answered. */
export function questionsOf(client: Client): number {
  return insideOf(client)._callbacks?.length ?? 0;
}

/** Those that the host has opened and not closed. */
export function channelsOf(client: Client): readonly ClientChannel[] {
  return Object.values(insideOf(client)._chanMgr?._channels ?? {}).filter(isChannel);
}

/** Number of the channel that was asked for last. */
export function lastChannelOf(client: Client): number {
  return insideOf(client)._chanMgr?._cur ?? -1;
}

/** `undefined`: the host has closed it, or never opened it. */
export function channelAt(client: Client, id: number): ClientChannel | undefined {
  const channel = insideOf(client)._chanMgr?._channels[id];
  return isChannel(channel) ? channel : undefined;
}

function isChannel(value: unknown): value is ClientChannel {
  return typeof value === 'object' && value !== null;
}
