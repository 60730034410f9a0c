import type { Timer } from '../../ports/clock.ts';
import { untilAborted } from '../../ports/abort.ts';
import type { AwsRegion, Filter } from './aws-region.ts';
import type { Instance } from './instance.ts';

/** Which instances somebody asks for: one by its id, or all that carry these tags. */
export type InstanceQuery = { readonly instanceId: string } | { readonly tags: Readonly<Record<string, string>> };

/** What somebody asked lately, and what AWS said. */
interface Question {
  readonly query: InstanceQuery;
  askedAt: number;
  answer: { readonly at: number; readonly found: readonly Instance[] } | undefined;
  askers: Asker[];
}

interface Asker {
  readonly resolve: (found: readonly Instance[]) => void;
  readonly reject: (error: unknown) => void;
}

export interface InstanceBatchOptions {
  /** An answer is good for so long. Default 5 s. */
  readonly freshMs?: number | undefined;
}

const FRESH_MS = 5_000;
/** Long enough that a fleet which wakes up together shares a question, far below what the answer takes. */
const GATHER_MS = 25;
/** Who has not asked for so long is not expected to ask again soon. */
const REMEMBER_MS = 120_000;
/** AWS takes no more in one filter. */
const VALUES_PER_FILTER = 200;

/**
 * Asks for the whole fleet at once: whenever somebody has to know, everything that was asked lately is asked along with it,
 * and the answers are good for a moment. So a thousand workspaces that are looked at in turn cost some requests every few
 * seconds. AWS caps requests per account and region, and others need some too.
 */
export class InstanceBatch {
  readonly #region: AwsRegion;
  readonly #freshMs: number;
  readonly #closing = new AbortController();
  readonly #questions = new Map<string, Question>();
  #timer: Timer | undefined;

  constructor(region: AwsRegion, { freshMs = FRESH_MS }: InstanceBatchOptions = {}) {
    this.#region = region;
    this.#freshMs = freshMs;
  }

  /** Those that fit, in whatever state; a terminated one is still told of for about an hour. */
  async find(query: InstanceQuery, signal: AbortSignal): Promise<readonly Instance[]> {
    const key = keyOf(query);
    const question = this.#questions.get(key) ?? { query, askedAt: 0, answer: undefined, askers: [] };
    this.#questions.set(key, question);
    question.askedAt = this.#now();
    if (this.#isFresh(question)) return question.answer?.found ?? [];
    const answer = new Promise<readonly Instance[]>((resolve, reject) => {
      question.askers.push({ resolve, reject });
    });
    this.#timer ??= this.#region.clock.setTimer(GATHER_MS, () => this.#askAll());
    return untilAborted(answer, signal);
  }

  /** Something went wrong that an answer did not foretell: what is known may be out of date. */
  doubt(): void {
    for (const question of this.#questions.values()) question.answer = undefined;
  }

  /** Whoever still waits is told that it was called off. */
  close(): void {
    this.#closing.abort();
    if (this.#timer !== undefined) this.#askAll();
  }

  #now(): number {
    return this.#region.clock.monotonic();
  }

  #isFresh({ answer }: Question): boolean {
    return answer !== undefined && this.#now() - answer.at < this.#freshMs;
  }

  #askAll(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const [key, { askedAt, askers }] of this.#questions) {
      if (askers.length === 0 && this.#now() - askedAt > REMEMBER_MS) this.#questions.delete(key);
    }
    for (const group of groupsOf([...this.#questions.values()])) void this.#ask(group);
  }

  async #ask(questions: readonly Question[]): Promise<void> {
    const askers = questions.map((question) => question.askers.splice(0));
    try {
      const filters = filtersOf(questions.map(({ query }) => query));
      const instances = await this.#region.instances(filters, this.#closing.signal);
      for (const [index, question] of questions.entries()) {
        const found = instances.filter((instance) => fits(instance, question.query));
        question.answer = { at: this.#now(), found };
        for (const { resolve } of askers[index] ?? []) resolve(found);
      }
    } catch (error) {
      for (const { reject } of askers.flat()) reject(error);
    }
  }
}

/** Questions of one form, no more of them than one filter has room for. */
function groupsOf(questions: readonly Question[]): readonly (readonly Question[])[] {
  const byForm = new Map<string, Question[]>();
  for (const question of questions) {
    const form = formOf(question.query);
    const group = byForm.get(form) ?? [];
    group.push(question);
    byForm.set(form, group);
  }
  return [...byForm.values()]
    .flatMap((group) =>
      Array.from({ length: Math.ceil(group.length / VALUES_PER_FILTER) }, (_, index) =>
        group.slice(index * VALUES_PER_FILTER, (index + 1) * VALUES_PER_FILTER),
      ),
    )
    .filter((group) => group.some(({ askers }) => askers.length > 0));
}

function keyOf(query: InstanceQuery): string {
  if ('instanceId' in query) return query.instanceId;
  return JSON.stringify(Object.entries(query.tags).toSorted(([a], [b]) => (a < b ? -1 : 1)));
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
