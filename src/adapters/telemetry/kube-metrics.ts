import type { Counter, Histogram } from 'prom-client';

import type { ReflectorState, WatchEnd } from '../../ports/metrics.ts';
import { KUBE_BUCKETS } from './buckets.ts';
import type { Instruments } from './instruments.ts';

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];
const LIST_OUTCOMES = ['ok', 'expired', 'error'];
const WATCH_ENDS: readonly WatchEnd[] = [
  'closed',
  'relist',
  'broken',
  'silent',
  'unreadable',
  'expired',
  'throttled',
  'refused',
  'failed',
];

const RESOURCE = { resource: { named: 'each kind of object that is watched' } };

/** What is counted of the Kubernetes API: requests, by the names of client-go, and how copies of its objects are kept. */
export class KubeMetrics {
  readonly #requests: Counter;
  readonly #requestSeconds: Histogram;
  readonly #lists: Counter;
  readonly #listSeconds: Histogram;
  readonly #watches: Counter;
  readonly #watchEnds: Counter;
  readonly #misses: Counter;
  readonly #events: Counter;
  readonly #resources = new Set<string>();
  #readReflectors: () => readonly ReflectorState[] = () => [];

  constructor(make: Instruments) {
    this.#requests = make.counter('rest_client_requests_total', 'Requests to the Kubernetes API.', {
      code: { named: 'each HTTP status, and `<error>` without one' },
      host: { named: 'each API server' },
      method: { late: METHODS },
    });
    this.#requestSeconds = make.seconds(
      'rest_client_request_duration_seconds',
      'Until their answer was there; of a watch, its beginning.',
      KUBE_BUCKETS,
      { host: { named: 'each API server' }, verb: { late: METHODS } },
    );
    this.#lists = make.counter(
      'plugset_kube_lists_total',
      'Lists of all objects; expired: the server had forgotten their moment, and they began again.',
      { ...RESOURCE, outcome: { late: LIST_OUTCOMES } },
    );
    this.#listSeconds = make.seconds(
      'plugset_kube_list_duration_seconds',
      'Duration of a list, all its pages.',
      KUBE_BUCKETS,
      RESOURCE,
    );
    this.#watches = make.counter('plugset_kube_watches_total', 'Watches that the server agreed to.', RESOURCE);
    this.#watchEnds = make.counter('plugset_kube_watch_ends_total', 'Watches that ended, by why.', {
      ...RESOURCE,
      end: { late: WATCH_ENDS },
    });
    this.#misses = make.counter(
      'plugset_kube_watch_cache_misses_total',
      'Changes that a list found and the watch had not told, though it was heard up to the same version.',
      RESOURCE,
    );
    this.#events = make.counter(
      'plugset_kube_events_total',
      'Events about workspaces; dropped: too many waited, or the API could not be reached for minutes.',
      { outcome: { late: ['sent', 'refused', 'dropped'] } },
    );
    this.#registerCopies(make);
  }

  asked(host: string, method: string, code: string, seconds: number): void {
    this.#requests.inc({ code, host, method });
    this.#requestSeconds.observe({ host, verb: method }, seconds);
  }

  listed(resource: string, outcome: string, seconds: number): void {
    this.#introduce(resource);
    this.#lists.inc({ resource, outcome });
    this.#listSeconds.observe({ resource }, seconds);
  }

  watchOpened(resource: string): void {
    this.#watches.inc({ resource });
  }

  watchEnded(resource: string, end: WatchEnd): void {
    this.#watchEnds.inc({ resource, end });
  }

  missed(resource: string, changes: number): void {
    this.#misses.inc({ resource }, changes);
  }

  eventTold(outcome: string): void {
    this.#events.inc({ outcome });
  }

  observeReflectors(read: () => readonly ReflectorState[]): void {
    this.#readReflectors = read;
  }

  /** Every series of a resource begins at 0 with its first list. */
  #introduce(resource: string): void {
    if (this.#resources.has(resource)) return;
    this.#resources.add(resource);
    for (const outcome of LIST_OUTCOMES) this.#lists.inc({ resource, outcome }, 0);
    for (const end of WATCH_ENDS) this.#watchEnds.inc({ resource, end }, 0);
    this.#watches.inc({ resource }, 0);
    this.#misses.inc({ resource }, 0);
  }

  #registerCopies(make: Instruments): void {
    const read = (name: string, help: string, value: (state: ReflectorState) => number): void => {
      make.readGauge(name, help, RESOURCE, (gauge) => {
        for (const state of this.#readReflectors()) gauge.set({ resource: state.resource }, value(state));
      });
    };
    read('plugset_kube_objects', 'Objects of which plugset has a copy.', (state) => state.objects);
    read('plugset_kube_synced', '1 once there is a copy, else 0.', (state) => (state.isSynced ? 1 : 0));
    read(
      'plugset_kube_silent_seconds',
      'Since the Kubernetes API last said anything of them; it does so every minute.',
      (state) => state.silentSeconds,
    );
  }
}
