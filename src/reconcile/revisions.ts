import { classifyError, transient, type ReconcileError } from '../domain/errors.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { untilAborted } from '../ports/abort.ts';
import type { Clock, Timer } from '../ports/clock.ts';
import { Deadline } from '../ports/deadline.ts';
import type { Logger } from '../ports/logger.ts';
import type { Metrics, SourceState } from '../ports/metrics.ts';
import type { ParsedSource } from '../ports/plugin-source.ts';
import type { SourceRegistry } from './source-registry.ts';

export interface RevisionsOptions {
  readonly registry: SourceRegistry;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** How often the refs of one group are asked for, in milliseconds; ±10 % jitter. */
  readonly intervalMs: (scheme: string) => number;
  /** Followers of a ref that moved, or of a group that answers again after it failed. */
  readonly onMoved: (keys: readonly WorkspaceKey[]) => void;
}

/** The revision a source stands for now; `stale` when that could not be asked lately. */
export interface Resolution {
  readonly revision: string;
  readonly stale?: ReconcileError | undefined;
}

/** After a failure a group is asked again at the earliest after this time, however many workspaces retry. */
const RETRY_AFTER_FAILURE_MS = 5_000;
const RESOLVE_DEADLINE_MS = 60_000;

interface Member {
  readonly parsed: ParsedSource;
  readonly followers: Set<WorkspaceKey>;
  revision: string | undefined;
  error: ReconcileError | undefined;
}

interface Group {
  readonly name: string;
  readonly scheme: string;
  readonly members: Map<string, Member>;
  /** Monotonic time of the last question; `-Infinity` before the first. */
  askedAtMs: number;
  inFlight: Promise<void> | undefined;
  /** Set while the group is to be asked again by itself. */
  timer: Timer | undefined;
  /** How the last question ended. */
  outcome: 'ok' | 'error' | undefined;
}

/**
 * What every declared source stands for now, asked once per group (repository) for the whole fleet.
 *
 * A group is asked when a workspace needs a selector that it has no answer for, when its interval has passed, and when a
 * person requested a pass. Between, everybody gets the last answer. When asking fails, the last answer stands
 * and says so; the failure itself stands for a few seconds only, and never longer than until the next question.
 */
export class Revisions {
  readonly #options: RevisionsOptions;
  readonly #groups = new Map<string, Group>();
  readonly #followed = new Map<WorkspaceKey, ReadonlySet<Member>>();
  readonly #stopped = new AbortController();
  /** Unix milliseconds, by scheme. */
  readonly #answeredAtMs = new Map<string, number>();

  constructor(options: RevisionsOptions) {
    this.#options = options;
    options.metrics.observeSources(() => this.state());
  }

  /** Says which sources a workspace needs from now on; an empty list forgets it. */
  follow(key: WorkspaceKey, sources: readonly ParsedSource[]): void {
    const members = new Set(sources.map((source) => this.#member(source)));
    const before = this.#followed.get(key) ?? new Set();
    const left = [...before].filter((old) => !members.has(old));
    // As nearly always. What lives long stays where it is: a new copy each pass is what fills the heap of a large fleet.
    if (left.length === 0 && members.size === before.size && members.size > 0) return;
    for (const member of members) member.followers.add(key);
    if (members.size === 0) this.#followed.delete(key);
    else this.#followed.set(key, members);
    for (const old of left) {
      old.followers.delete(key);
      const group = this.#groups.get(old.parsed.group);
      if (group !== undefined) this.#sweep(group);
    }
  }

  /** The answer of {@link resolve} where that is known without asking anybody. */
  known(source: ParsedSource, fresh: boolean): Resolution | undefined {
    const member = this.#member(source);
    if (member.revision === undefined || this.#isDue(this.#group(source), member, fresh)) return undefined;
    return { revision: member.revision, stale: member.error };
  }

  /**
   * The revision of a followed source. `fresh` asks the source again even if the last answer is recent.
   * Throws what the source said when there is no answer at all.
   */
  async resolve(source: ParsedSource, fresh: boolean, signal: AbortSignal): Promise<Resolution> {
    const member = this.#member(source);
    const group = this.#group(source);
    if (this.#isDue(group, member, fresh)) await this.#ask(group, signal);
    // A flight that was under way when this member came may have left without it.
    if (member.revision === undefined && member.error === undefined) await this.#ask(group, signal);
    if (member.revision !== undefined) return { revision: member.revision, stale: member.error };
    throw member.error ?? transient('SourceUnavailable', `${source.ref.text} gave no answer`);
  }

  /** Who is really asked, as the timers say and not the declarations. */
  state(): readonly SourceState[] {
    const groups = [...this.#groups.values()].filter(
      ({ timer, inFlight }) => timer !== undefined || inFlight !== undefined,
    );
    return this.#options.registry.schemes.map((scheme) => {
      const count = (outcome: Group['outcome']): number =>
        groups.filter((group) => group.scheme === scheme && group.outcome === outcome).length;
      const answeredAtMs = this.#answeredAtMs.get(scheme);
      return {
        scheme,
        followed: { ok: count('ok'), error: count('error') },
        lastSuccessSeconds: answeredAtMs === undefined ? undefined : answeredAtMs / 1000,
      };
    });
  }

  stop(): void {
    this.#stopped.abort();
    for (const group of this.#groups.values()) group.timer?.cancel();
    this.#groups.clear();
  }

  #group(source: ParsedSource): Group {
    let group = this.#groups.get(source.group);
    if (group === undefined) {
      group = {
        name: source.group,
        scheme: source.ref.scheme,
        members: new Map(),
        askedAtMs: Number.NEGATIVE_INFINITY,
        inFlight: undefined,
        timer: undefined,
        outcome: undefined,
      };
      this.#groups.set(source.group, group);
    }
    return group;
  }

  #member(source: ParsedSource): Member {
    const group = this.#group(source);
    let member = group.members.get(source.selector);
    if (member === undefined) {
      member = { parsed: source, followers: new Set(), revision: undefined, error: undefined };
      group.members.set(source.selector, member);
    }
    return member;
  }

  #isDue(group: Group, member: Member, fresh: boolean): boolean {
    if (member.revision !== undefined && member.parsed.pinned) return false;
    const ageMs = this.#options.clock.monotonic() - group.askedAtMs;
    if (member.error !== undefined) return ageMs >= RETRY_AFTER_FAILURE_MS;
    return fresh || member.revision === undefined;
  }

  /** Single flight per group; a caller that aborts leaves the flight to the others. */
  async #ask(group: Group, signal: AbortSignal): Promise<void> {
    group.inFlight ??= this.#askNow(group).finally(() => {
      group.inFlight = undefined;
      this.#schedule(group);
    });
    await untilAborted(group.inFlight, signal);
  }

  async #askNow(group: Group): Promise<void> {
    const { clock, metrics, registry } = this.#options;
    const startedMs = clock.monotonic();
    group.askedAtMs = startedMs;
    const members = [...group.members.values()].filter(
      (member) => !(member.parsed.pinned && member.revision !== undefined),
    );
    const deadline = new Deadline(clock, RESOLVE_DEADLINE_MS, this.#stopped.signal);
    let outcome: 'ok' | 'error' = 'ok';
    const woken = new Set<WorkspaceKey>();
    try {
      const wanted = members.map((member) => member.parsed);
      const answers = await deadline.race(registry.sourceOf(group.scheme).resolve(wanted, deadline.signal));
      for (const member of members) settle(member, answers.get(member.parsed), woken);
    } catch (error) {
      outcome = 'error';
      const failure =
        deadline.cause === 'expired'
          ? transient('SourceUnavailable', `no answer within ${RESOLVE_DEADLINE_MS / 1000} s`, error)
          : classifyError(error);
      for (const member of members) member.error = failure;
    } finally {
      deadline.clear();
    }
    group.outcome = outcome;
    if (outcome === 'ok') this.#answeredAtMs.set(group.scheme, clock.now());
    metrics.resolved(group.scheme, outcome, (clock.monotonic() - startedMs) / 1000);
    if (woken.size > 0) this.#options.onMoved([...woken]);
  }

  /** Forgets what nobody follows any more. One that is being asked is left to the end of that, which calls this too. */
  #sweep(group: Group): void {
    if (group.inFlight !== undefined) return;
    for (const [selector, member] of group.members) {
      if (member.followers.size === 0) group.members.delete(selector);
    }
    if (group.members.size > 0) return;
    group.timer?.cancel();
    if (this.#groups.get(group.name) === group) this.#groups.delete(group.name);
  }

  #schedule(group: Group): void {
    group.timer?.cancel();
    group.timer = undefined;
    this.#sweep(group);
    const waits = [...group.members.values()].some((member) => !member.parsed.pinned || member.error !== undefined);
    if (!waits || this.#stopped.signal.aborted) return;
    const { clock, intervalMs, logger } = this.#options;
    const delayMs = intervalMs(group.scheme) * (0.9 + clock.random() * 0.2);
    group.timer = clock.setTimer(delayMs, () => {
      this.#ask(group, this.#stopped.signal).catch((error: unknown) => {
        if (!this.#stopped.signal.aborted) logger.error('resolving refs failed', { error });
      });
    });
  }
}

/** Takes one answer over and notes who should know: the ref moved, or it answers again. */
function settle(member: Member, answer: string | Error | undefined, woken: Set<WorkspaceKey>): void {
  if (answer === undefined || answer instanceof Error) {
    member.error = classifyError(answer ?? transient('SourceUnavailable', `${member.parsed.ref.text} gave no answer`));
    return;
  }
  const moved = member.revision !== undefined && member.revision !== answer;
  const recovered = member.error !== undefined;
  member.revision = answer;
  member.error = undefined;
  if (moved || recovered) for (const key of member.followers) woken.add(key);
}
