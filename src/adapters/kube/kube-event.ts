import { hexOf, sha256 } from '../../domain/digest.ts';
import { splitWorkspaceKey } from '../../domain/name.ts';
import type { Transition } from '../../domain/transition.ts';
import { API_VERSION } from '../../domain/workspace.ts';

/** What `kubectl describe` and `kubectl events` show of a workspace: an object of `events.k8s.io/v1`. */
export interface KubeEvent {
  readonly apiVersion: 'events.k8s.io/v1';
  readonly kind: 'Event';
  readonly metadata: { readonly namespace: string; readonly name: string };
  readonly eventTime: string;
  readonly reportingController: string;
  readonly reportingInstance: string;
  readonly action: string;
  readonly reason: string;
  readonly type: 'Normal' | 'Warning';
  readonly regarding: object;
  readonly note: string;
  readonly series?: Series;
}

/** How often the same happened, and when last. */
export interface Series {
  /** 2 or more: of one alone there is no series. */
  readonly count: number;
  readonly lastObservedTime: string;
}

export interface EventFacts {
  /** Of the object; two that had one name after another are told apart by it. */
  readonly uid: string | undefined;
  /** Which process tells of it. */
  readonly instance: string;
  /** Unix milliseconds. */
  readonly atMs: number;
}

const CONTROLLER = 'plugset.dev/controller';
/** What the API server takes, in bytes. */
const LONGEST_NOTE = 1024;
const LONGEST_INSTANCE = 128;

/** Equal for transitions that one event can tell of: it has one note for good. */
export function sameEvent({ workspace, to, message }: Transition, uid: string | undefined): string {
  return sha256(JSON.stringify([workspace, uid, to.standing, to.reason, message]));
}

/** Pure. Its name is made of what it says, when it was said first and by whom, so that who sends it twice makes one. */
export function eventOf(transition: Transition, { uid, instance, atMs }: EventFacts): KubeEvent {
  const { namespace, name } = splitWorkspaceKey(transition.workspace);
  const { to, message } = transition;
  const mark = hexOf(sha256(JSON.stringify([sameEvent(transition, uid), instance, atMs]))).slice(0, 16);
  return {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { namespace, name: `${name}.${mark}` },
    eventTime: microTime(atMs),
    reportingController: CONTROLLER,
    reportingInstance: instance.slice(0, LONGEST_INSTANCE),
    action: to.standing === 'Deleted' ? 'Delete' : 'Reconcile',
    reason: to.reason,
    type: typeOf(transition),
    regarding: { apiVersion: API_VERSION, kind: 'Workspace', namespace, name, ...(uid === undefined ? {} : { uid }) },
    note: withinBytes(message, LONGEST_NOTE),
  };
}

/** As the API server has times of events: six digits, of which we know three. */
export function microTime(atMs: number): string {
  return new Date(atMs).toISOString().replace('Z', '000Z');
}

/** Whether a person should look: not for what goes on by itself, nor for what somebody has asked for. */
function typeOf({ to: { standing, reason } }: Transition): KubeEvent['type'] {
  switch (standing) {
    case 'Ready':
    case 'Idle':
      return 'Normal';
    case 'NotReady':
      return reason === 'Deleting' || reason === 'Progressing' ? 'Normal' : 'Warning';
    case 'Held':
      return reason === 'PruneHeld' ? 'Warning' : 'Normal';
    case 'Deleted':
      return reason === 'DeletedUnclean' ? 'Warning' : 'Normal';
    case 'Drifted':
    case 'Stalled':
      return 'Warning';
  }
}

function withinBytes(text: string, most: number): string {
  if (Buffer.byteLength(text) <= most) return text;
  const ellipsis = '…';
  let bytes = Buffer.byteLength(ellipsis);
  let end = 0;
  for (const character of text) {
    bytes += Buffer.byteLength(character);
    if (bytes > most) break;
    end += character.length;
  }
  return text.slice(0, end) + ellipsis;
}
