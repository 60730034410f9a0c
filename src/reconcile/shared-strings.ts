/** Different texts at most; beyond them it begins anew, and those in use live on where they are used. */
const MOST = 20_000;

/**
 * What is remembered of a fleet says the same digests, revisions and versions of every workspace. Kept once each, and never
 * as a part of the output they were cut from: V8 keeps the whole of that alive for sixty characters of it.
 */
export class SharedStrings {
  readonly #known = new Map<string, string>();

  /** A copy of plain data in which equal texts are one. */
  copy<T>(value: T): T {
    return this.#copyOf(value) as T;
  }

  #copyOf(value: unknown): unknown {
    if (typeof value === 'string') return this.#text(value);
    if (Array.isArray(value)) return value.map((one) => this.#copyOf(one));
    if (typeof value !== 'object' || value === null) return value;
    const copy: Record<string, unknown> = { ...value };
    for (const key of Object.keys(copy)) copy[key] = this.#copyOf(copy[key]);
    return copy;
  }

  #text(text: string): string {
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    if (this.#known.size >= MOST) this.#known.clear();
    const own = structuredClone(text);
    this.#known.set(own, own);
    return own;
  }
}
