import type { Timer } from '../../ports/clock.ts';
import { untilAborted } from '../../ports/abort.ts';
import type { AwsRegion, Filter } from './aws-region.ts';
import type { Instance } from './instance.ts';

/** Which instances somebody asks for: one by its id, or all that carry these tags. */
export type InstanceQuery = { readonly instanceId: string } | { readonly tags: Readonly<Record<string, string>> };

interface Asker {
  readonly query: InstanceQuery;
  readonly resolve: (found: readonly Instance[]) => void;
  readonly reject: (error: unknown) => void;
}

/** Long enough that a fleet which wakes up together shares a question, far below what the answer takes. */
const GATHER_MS = 25;
/** AWS takes no more in one filter. */
const VALUES_PER_FILTER = 200;

/**
 * Asks for many instances at once: who asks within a short moment shares a question with everybody whose question has the
 * same form. AWS caps requests per account and region, and humans share that.
 */
export class InstanceBatch {
  readonly #region: AwsRegion;
  readonly #closing = new AbortController();
  #askers: Asker[] = [];
  #timer: Timer | undefined;

  constructor(region: AwsRegion) {
    this.#region = region;
  }

  /** Those that fit, in whatever state; a terminated one is still told of for about an hour. */
  async find(query: InstanceQuery, signal: AbortSignal): Promise<readonly Instance[]> {
    const answer = new Promise<readonly Instance[]>((resolve, reject) => {
      this.#askers.push({ query, resolve, reject });
    });
    this.#timer ??= this.#region.clock.setTimer(GATHER_MS, () => this.#askAll());
    return untilAborted(answer, signal);
  }

  /** Whoever still waits is told that it was called off. */
  close(): void {
    this.#closing.abort();
    if (this.#timer !== undefined) this.#askAll();
  }

  #askAll(): void {
    const askers = this.#askers;
    this.#askers = [];
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const group of groupsOf(askers)) void this.#ask(group);
  }

  async #ask(askers: readonly Asker[]): Promise<void> {
    try {
      const found = await this.#region.instances(filtersOf(askers.map(({ query }) => query)), this.#closing.signal);
      for (const { query, resolve } of askers) resolve(found.filter((instance) => fits(instance, query)));
    } catch (error) {
      for (const { reject } of askers) reject(error);
    }
  }
}

/** Questions of one form, no more of them than one filter has room for. */
function groupsOf(askers: readonly Asker[]): readonly (readonly Asker[])[] {
  const byForm = new Map<string, Asker[]>();
  for (const asker of askers) {
    const form = formOf(asker.query);
    byForm.set(form, [...(byForm.get(form) ?? []), asker]);
  }
  return [...byForm.values()].flatMap((group) =>
    Array.from({ length: Math.ceil(group.length / VALUES_PER_FILTER) }, (_, index) =>
      group.slice(index * VALUES_PER_FILTER, (index + 1) * VALUES_PER_FILTER),
    ),
  );
}

function formOf(query: InstanceQuery): string {
  return 'instanceId' in query ? 'id' : JSON.stringify(Object.keys(query.tags).toSorted());
}

/**
 * Filters that let through what fits any of the queries, and perhaps more: tags are joined key by key. Ids go as a filter
 * too, because the parameter for ids fails as a whole when one of them is unknown.
 */
function filtersOf(queries: readonly InstanceQuery[]): Filter[] {
  const values = new Map<string, Set<string>>();
  const add = (name: string, value: string): void => {
    values.set(name, (values.get(name) ?? new Set()).add(value));
  };
  for (const query of queries) {
    if ('instanceId' in query) add('instance-id', query.instanceId);
    else for (const [key, value] of Object.entries(query.tags)) add(`tag:${key}`, literal(value));
  }
  return [...values].map(([Name, Values]) => ({ Name, Values: [...Values] }));
}

/** In a filter `*` and `?` stand for anything. */
function literal(value: string): string {
  return value.replaceAll(/[\\*?]/g, '\\$&');
}

function fits(instance: Instance, query: InstanceQuery): boolean {
  if ('instanceId' in query) return instance.id === query.instanceId;
  return Object.entries(query.tags).every(([key, value]) => instance.tags[key] === value);
}
