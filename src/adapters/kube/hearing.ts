import { classifyError } from '../../domain/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import { KubeRefusal } from './kube-refusal.ts';
import { isLater } from './resource-version.ts';

/** No bookmark, no event and no list for so long: what is copied may be anything by now. */
const DEAF_MS = 300_000;

/** How far the API server was heard of some objects, how long ago, and what keeps us from hearing more. */
export class Hearing {
  readonly #clock: Clock;
  /** Of the objects, in the plural. */
  readonly #name: string;
  /** Called whenever more was heard. */
  readonly #looks = new Set<() => void>();
  #isOpen = false;
  #version: string | undefined;
  #isLost = true;
  #heardAt: number;
  /** When something was heard last, or failed, and so was tried. */
  #stirredAt: number;
  #failure: unknown;
  #refusal: KubeRefusal | undefined;

  constructor(clock: Clock, name: string) {
    this.#clock = clock;
    this.#name = name;
    this.#heardAt = this.#stirredAt = clock.monotonic();
  }

  /** Everything up to here was heard; `undefined`: nobody knows what was not. */
  get version(): string | undefined {
    return this.#isLost ? undefined : this.#version;
  }

  /** Since something was heard. */
  get failure(): unknown {
    return this.#failure;
  }

  /** The answer since something was heard that the objects are not for us (403), which a broken connection takes back as little. */
  get refusal(): KubeRefusal | undefined {
    return this.#refusal;
  }

  get silentMs(): number {
    return this.#clock.monotonic() - this.#heardAt;
  }

  /** From now on somebody listens. */
  open(): void {
    this.#isOpen = true;
    this.#isLost = true;
    this.#heard();
  }

  close(): void {
    this.#isOpen = false;
  }

  /** By a list, which may take the objects back to a former time: their database was restored. */
  listed(version: string): void {
    this.#version = version;
    this.#isLost = false;
    this.#heard();
  }

  /** By an event. Those in the wrong order take nothing back. */
  told(version: string): void {
    if (!isLater(this.#version ?? '', version)) this.#version = version;
    this.#heard();
  }

  /** What was heard is no place to go on from; only a list is. */
  lose(): void {
    this.#isLost = true;
  }

  /** It is not over, and goes on. */
  stir(): void {
    this.#stirredAt = this.#clock.monotonic();
  }

  failed(error: unknown): void {
    this.#failure = error;
    if (error instanceof KubeRefusal && error.status === 403) this.#refusal = error;
    this.stir();
  }

  /** Resolves with true as soon as so much was heard, with false when it was not within `timeoutMs`. */
  async until(version: string, signal: AbortSignal, timeoutMs: number): Promise<boolean> {
    const isThere = (): boolean => this.#version === version || isLater(this.#version ?? '', version);
    if (isThere()) return true;
    const deadline = new Deadline(this.#clock, timeoutMs, signal);
    let look: () => void = () => undefined;
    const heard = new Promise<void>((resolve) => {
      look = (): void => (isThere() ? resolve() : undefined);
    });
    this.#looks.add(look);
    try {
      await deadline.race(heard);
      return true;
    } catch (error) {
      if (deadline.cause === 'expired') return false;
      throw error;
    } finally {
      this.#looks.delete(look);
      deadline.clear();
    }
  }

  /** That nothing was heard for five minutes, and why. */
  outdated(): string | undefined {
    if (!this.#isOpen || this.silentMs < DEAF_MS) return undefined;
    const why = this.#failure === undefined ? '' : `: ${classifyError(this.#failure).message}`;
    return `nothing was heard of ${this.#name} for ${Math.round(this.silentMs / 1000)} s${why}`;
  }

  /** That for five minutes nothing was heard and nothing failed either. */
  problem(): string | undefined {
    const idleMs = this.#clock.monotonic() - this.#stirredAt;
    if (!this.#isOpen || idleMs < DEAF_MS) return undefined;
    return `the watch of ${this.#name} hangs: nothing was heard or tried for ${Math.round(idleMs / 1000)} s`;
  }

  #heard(): void {
    this.#heardAt = this.#stirredAt = this.#clock.monotonic();
    this.#failure = this.#refusal = undefined;
    for (const look of this.#looks) look();
  }
}
