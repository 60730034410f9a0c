import type { KubeClient } from './kube-client.ts';
import { isKubeObject, type KubeObject } from './kube-object.ts';
import { KubeRefusal, type KubeStatus } from './kube-refusal.ts';
import type { KubeCollection } from './list-pages.ts';
import { LineTooLong, readLines } from './read-lines.ts';
import { Silence } from './silence.ts';

/** A bookmark says only how far the watch has come; its object has no name. */
export type WatchEvent =
  | { readonly kind: 'put' | 'remove'; readonly object: KubeObject; readonly version: string }
  | { readonly kind: 'bookmark'; readonly version: string };

export interface WatchOptions {
  /** Everything after this version is told. */
  readonly from: string;
  /** After this time the server ends the watch. */
  readonly timeoutSeconds: number;
  /** A peer that says nothing for so long is gone: bookmarks come every minute. */
  readonly silenceMs: number;
  readonly signal: AbortSignal;
  /** The server has agreed; what follows are events. */
  readonly onOpen: () => void;
}

/** Why a watch broke off, other than by a refusal. */
export class WatchFault extends Error {
  override readonly name = 'WatchFault';
  readonly kind: 'silent' | 'unreadable';

  constructor(kind: 'silent' | 'unreadable', message: string, cause?: unknown) {
    super(message, { cause });
    this.kind = kind;
  }
}

/** etcd takes objects of 1.5 MB; as JSON, with all that belongs to an event, none is longer than this. */
const LONGEST_EVENT = 16 * 1024 * 1024;

const KINDS: Readonly<Record<string, 'put' | 'remove' | 'bookmark' | undefined>> = {
  ADDED: 'put',
  MODIFIED: 'put',
  DELETED: 'remove',
  BOOKMARK: 'bookmark',
};

/** The events of one watch. Returns when the server ends it, throws when it ends in any other way. */
export async function* watchEvents(
  client: KubeClient,
  { path, query }: KubeCollection,
  { from, timeoutSeconds, silenceMs, signal, onOpen }: WatchOptions,
): AsyncGenerator<WatchEvent, void> {
  const silence = new Silence(client.clock, silenceMs, signal);
  const asked = { ...query, watch: 1, allowWatchBookmarks: 'true', resourceVersion: from, timeoutSeconds };
  try {
    const stream = await client.watch(path, asked, silence.signal);
    onOpen();
    silence.heard();
    for await (const line of readLines(stream, LONGEST_EVENT)) {
      // A whole line, and not a byte: a peer that sends half of one is as good as dead.
      silence.heard();
      const event = eventIn(line, path);
      if (event !== undefined) yield event;
    }
  } catch (error) {
    if (silence.isTooLong) throw new WatchFault('silent', `nothing came for ${Math.round(silenceMs / 1000)} s`, error);
    if (error instanceof LineTooLong) throw new WatchFault('unreadable', error.message);
    throw error;
  } finally {
    silence.clear();
  }
}

interface RawEvent {
  readonly type?: string;
  readonly object?: unknown;
}

/** `undefined`: of a kind that came after this was written. */
function eventIn(line: string, path: string): WatchEvent | undefined {
  const { type = '', object } = rawEventIn(line);
  if (type === 'ERROR') {
    const status = (object ?? {}) as KubeStatus;
    throw new KubeRefusal(`within the watch of ${path}`, status.code ?? 500, status);
  }
  const kind = KINDS[type];
  if (kind === undefined) return undefined;
  const version = (object as { metadata?: { resourceVersion?: unknown } } | undefined)?.metadata?.resourceVersion;
  if (typeof version !== 'string' || version === '') throw unreadable();
  if (kind === 'bookmark') return { kind, version };
  if (!isKubeObject(object)) throw unreadable();
  return { kind, object, version };
}

function rawEventIn(line: string): RawEvent {
  try {
    return (JSON.parse(line) as RawEvent | null) ?? {};
  } catch {
    throw unreadable();
  }
}

function unreadable(): WatchFault {
  return new WatchFault('unreadable', 'it sent what is no event');
}
