import { transient, type ReconcileError } from '../../domain/errors.ts';
import type { Timer } from '../../ports/clock.ts';
import { untilAborted } from '../../ports/abort.ts';
import { isAboutContent } from './aws-errors.ts';
import type { AwsRegion } from './aws-region.ts';
import { describeQuery, filtersOf, fits, keyOf, perRequest, type InstanceQuery } from './instance-query.ts';
import type { Instance } from './instance.ts';

/** What somebody asked lately, and what AWS said. */
interface Question {
  readonly query: InstanceQuery;
  askedAt: number;
  answer: Answer | undefined;
  askers: Asker[];
}

/** `refusal`: AWS takes no request that holds this question. */
type Answer = { readonly goodUntil: number } & (
  | { readonly found: readonly Instance[]; readonly askedAt: number }
  | { readonly refusal: ReconcileError }
);

interface Asker {
  readonly resolve: (found: readonly Instance[]) => void;
  readonly reject: (error: unknown) => void;
}

/** A question in a request that is under way, with those who wait for its answer. */
interface Asked {
  readonly question: Question;
  readonly askers: readonly Asker[];
}

const FRESH_MS = 5_000;
/** What AWS does not take it takes no better a minute later: it would have to be singled out anew each time. */
const REFUSED_MS = 600_000;
/** AWS knows nothing of an instance for about a minute after its launch. */
const UNKNOWN_MS = 60_000;
/** Long enough that a fleet which wakes up together shares a question, far below what the answer takes. */
const GATHER_MS = 25;
/** Who has not asked for so long is not expected to ask again soon. */
const REMEMBER_MS = 120_000;
/** Requests in which one that was refused may be looked through: finds two questions out of 200 that AWS does not take. */
const REQUESTS_TO_SINGLE_OUT = 32;

/**
 * Asks for the whole fleet at once: whenever somebody has to know, everything that was asked lately is asked along with it,
 * and the answers are good for a moment. So a thousand workspaces that are looked at in turn cost some requests every few
 * seconds. AWS caps requests per account and region, and others need some too.
 *
 * AWS refuses a request as a whole for one thing in it that it does not take. That is looked for by halves, and left out
 * from then on, so that a bad declaration fails alone.
 */
export class InstanceBatch {
  readonly #region: AwsRegion;
  readonly #closing = new AbortController();
  readonly #questions = new Map<string, Question>();
  /** By the ids of instances, in the order of time: what was asked by then is not believed of them. */
  readonly #doubted = new Map<string, number>();
  #timer: Timer | undefined;

  constructor(region: AwsRegion) {
    this.#region = region;
  }

  /**
   * Those that fit, in whatever state; a terminated one is still told of for about an hour. Throws what
   * {@link AwsRegion.instances} throws; `InvalidSpec` only to who asks what AWS does not take.
   */
  async find(query: InstanceQuery, signal: AbortSignal): Promise<readonly Instance[]> {
    const key = keyOf(query);
    const question = this.#questions.get(key) ?? { query, askedAt: 0, answer: undefined, askers: [] };
    this.#questions.set(key, question);
    question.askedAt = this.#now();
    if (this.#isGood(question.answer)) {
      if ('refusal' in question.answer) throw question.answer.refusal;
      return question.answer.found;
    }
    const answer = new Promise<readonly Instance[]>((resolve, reject) => {
      question.askers.push({ resolve, reject });
    });
    this.#timer ??= this.#region.clock.setTimer(GATHER_MS, () => this.#askAll());
    return untilAborted(answer, signal);
  }

  /** Something went wrong that an answer did not foretell: what is known of that instance may be out of date. */
  doubt(instanceId: string): void {
    this.#doubted.delete(instanceId);
    this.#doubted.set(instanceId, this.#now());
    for (const [id, at] of this.#doubted) {
      if (this.#now() - at <= REMEMBER_MS) break;
      this.#doubted.delete(id);
    }
  }

  /** Whoever still waits is told that it was called off. */
  close(): void {
    this.#closing.abort();
    if (this.#timer !== undefined) this.#askAll();
  }

  #now(): number {
    return this.#region.clock.monotonic();
  }

  #isGood(answer: Answer | undefined): answer is Answer {
    if (answer === undefined || this.#now() >= answer.goodUntil) return false;
    // One that was under way when the doubt came is an older one too.
    return 'refusal' in answer || answer.found.every(({ id }) => (this.#doubted.get(id) ?? -1) < answer.askedAt);
  }

  #askAll(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const questions of perRequest(this.#toAsk())) {
      if (questions.every(({ askers }) => askers.length === 0)) continue;
      const asked = questions.map((question) => ({ question, askers: question.askers.splice(0) }));
      void this.#ask(asked, { left: REQUESTS_TO_SINGLE_OUT });
    }
  }

  /** Everything that somebody waits for, or asked lately, but for what would be refused. */
  #toAsk(): readonly Question[] {
    const questions: Question[] = [];
    for (const [key, question] of this.#questions) {
      const { answer, askers, askedAt } = question;
      if (this.#isGood(answer) && 'refusal' in answer) {
        // They came while it was asked.
        for (const { reject } of askers.splice(0)) reject(answer.refusal);
      } else if (askers.length === 0 && this.#now() - askedAt > REMEMBER_MS) {
        this.#questions.delete(key);
      } else {
        questions.push(question);
      }
    }
    return questions;
  }

  async #ask(asked: readonly Asked[], requests: { left: number }): Promise<void> {
    const queries = asked.map(({ question }) => question.query);
    const [only] = queries.length === 1 ? queries : [];
    try {
      const subject = only === undefined ? undefined : describeQuery(only);
      const askedAt = this.#now();
      const instances = await this.#region.instances(filtersOf(queries), this.#closing.signal, subject);
      const goodUntil = this.#now() + FRESH_MS;
      for (const { question, askers } of asked) {
        const found = instances.filter((instance) => fits(instance, question.query));
        question.answer = { goodUntil, found, askedAt };
        for (const { resolve } of askers) resolve(found);
      }
    } catch (error) {
      await this.#failed(asked, error, requests);
    }
  }

  async #failed(asked: readonly Asked[], error: unknown, requests: { left: number }): Promise<void> {
    const reject = (reason: unknown): void => {
      for (const asker of asked.flatMap(({ askers }) => askers)) asker.reject(reason);
    };
    if (!isAboutContent(error)) return reject(error);
    const [one, ...more] = asked;
    if (one !== undefined && more.length === 0) {
      const forMs = error.reason === 'WorkspaceNotFound' ? UNKNOWN_MS : REFUSED_MS;
      one.question.answer = { goodUntil: this.#now() + forMs, refusal: error };
      return reject(error);
    }
    if (requests.left < 2) return reject(notSingledOut(this.#region.name, asked.length, error));
    requests.left -= 2;
    const half = Math.ceil(asked.length / 2);
    // In turn: side by side, they would be spent before any one of many had been singled out.
    await this.#ask(asked.slice(0, half), requests);
    await this.#ask(asked.slice(half), requests);
  }
}

/** It may pass: those that were singled out meanwhile are left out the next time. */
function notSingledOut(region: string, count: number, cause: unknown): ReconcileError {
  const text = `AWS does not take some of ${count} declarations of instances in ${region}; plugset goes on to find out which`;
  return transient('Unreachable', text, cause);
}
