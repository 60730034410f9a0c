import type { WorkspaceKey } from '../../domain/name.ts';
import type { DeclaredSource, SourceState } from '../../ports/metrics.ts';
import { FETCH_BUCKETS, RESOLVE_BUCKETS } from './buckets.ts';
import type { Instruments } from './instruments.ts';

const SCHEME = { named: 'each scheme of sources' };
const DECLARED_SCHEME = { named: 'each scheme of sources; unknown' };
const OUTCOMES = ['ok', 'error'] as const;
const OUTCOME = { late: OUTCOMES };
const TRACKING: readonly DeclaredSource['tracking'][] = ['moving', 'pinned'];

/**
 * What is asked of sources, and whether anybody asks. The two sides of that question are counted apart: what is declared
 * comes from the workspaces, what is followed from the timers that ask. A follower that follows nothing is
 * as silent as one with nothing to do, and only the first of the two is a fault.
 */
export class SourceMetrics {
  readonly #make: Instruments;
  readonly #isKnown: () => boolean;
  readonly #begun = new Set<string>();
  readonly #declared = new Map<WorkspaceKey, readonly DeclaredSource[]>();
  #readSources: () => readonly SourceState[] = () => [];

  readonly #resolves;
  readonly #resolveSeconds;
  readonly #fetches;
  readonly #fetchSeconds;

  constructor(make: Instruments, isKnown: () => boolean) {
    this.#make = make;
    this.#isKnown = isKnown;
    this.#resolves = make.counter(
      'plugset_source_resolve_total',
      'Questions to sources (what does this branch stand for now), by outcome.',
      { scheme: SCHEME, outcome: OUTCOME },
    );
    this.#resolveSeconds = make.seconds(
      'plugset_source_resolve_duration_seconds',
      'How long sources took to answer.',
      RESOLVE_BUCKETS,
      { scheme: SCHEME },
    );
    this.#fetches = make.counter('plugset_source_fetch_total', 'Fetches of trees from sources, by outcome.', {
      scheme: SCHEME,
      outcome: OUTCOME,
    });
    this.#fetchSeconds = make.seconds(
      'plugset_source_fetch_duration_seconds',
      'How long fetching and packing a tree took.',
      FETCH_BUCKETS,
      { scheme: SCHEME },
    );
    this.#registerDeclared();
    this.#registerFollowed();
  }

  resolved(scheme: string, outcome: string, seconds: number): void {
    this.#begin(scheme);
    this.#resolves.inc({ scheme, outcome });
    this.#resolveSeconds.observe({ scheme }, seconds);
  }

  fetched(scheme: string, outcome: string, seconds: number): void {
    this.#begin(scheme);
    this.#fetches.inc({ scheme, outcome });
    this.#fetchSeconds.observe({ scheme }, seconds);
  }

  declare(key: WorkspaceKey, plugins: readonly DeclaredSource[]): void {
    if (plugins.length === 0) this.#declared.delete(key);
    // What lives long stays where it is: a new copy each pass is what fills the heap of a large fleet.
    else if (!isSame(plugins, this.#declared.get(key))) this.#declared.set(key, plugins);
  }

  observe(read: () => readonly SourceState[]): void {
    this.#readSources = read;
  }

  clear(): void {
    this.#declared.clear();
    this.#readSources = () => [];
  }

  /** All outcomes of a scheme begin at 0 with the first one of them. */
  #begin(scheme: string): void {
    if (this.#begun.has(scheme)) return;
    this.#begun.add(scheme);
    for (const counter of [this.#resolves, this.#fetches]) {
      for (const outcome of OUTCOMES) counter.inc({ scheme, outcome }, 0);
    }
  }

  #registerDeclared(): void {
    this.#make.readGauge(
      'plugset_source_declared_plugins',
      'Declared plugins of workspaces that are worked on; pinned: the declaration names the revision itself (a full commit).',
      { scheme: DECLARED_SCHEME, tracking: { late: TRACKING } },
      (gauge) => {
        for (const { scheme } of this.#readSources()) {
          for (const tracking of TRACKING) gauge.set({ scheme, tracking }, 0);
        }
        for (const plugins of this.#declared.values()) {
          for (const { scheme, tracking } of plugins) gauge.inc({ scheme, tracking });
        }
      },
      this.#isKnown,
    );
  }

  #registerFollowed(): void {
    this.#make.readGauge(
      'plugset_source_followed_repositories',
      'Repositories that are asked for news again and again, by how the last question ended.',
      { scheme: SCHEME, outcome: OUTCOME },
      (gauge) => {
        for (const { scheme, followed } of this.#readSources()) {
          for (const [outcome, count] of Object.entries(followed)) gauge.set({ scheme, outcome }, count);
        }
      },
      this.#isKnown,
    );
    this.#make.readGauge(
      'plugset_source_last_success_timestamp_seconds',
      'When a question to a source of the scheme was last answered; left out before the first answer.',
      { scheme: SCHEME },
      (gauge) => {
        for (const { scheme, lastSuccessSeconds } of this.#readSources()) {
          if (lastSuccessSeconds !== undefined) gauge.set({ scheme }, lastSuccessSeconds);
        }
      },
      this.#isKnown,
    );
  }
}

function isSame(one: readonly DeclaredSource[], other: readonly DeclaredSource[] = []): boolean {
  return (
    one.length === other.length &&
    one.every(({ scheme, tracking }, index) => scheme === other[index]?.scheme && tracking === other[index].tracking)
  );
}
