import { transient } from '../../src/domain/errors.ts';
import type { ControllerState, StateDocument } from '../../src/ports/controller-state.ts';
import { encodeStateDocument, parseStateKey } from '../../src/ports/state-document.ts';

/** What several {@link MemoryControllerState}s share, and what a test does to it past the port. */
export class MemoryStateBackend {
  readonly documents = new Map<string, { readonly text: string; readonly version: string }>();
  isBroken = false;
  #versions = 0;

  nextVersion(): string {
    return String(++this.#versions);
  }
}

/** Documents in memory; passes the contract suite of the real ones. */
export class MemoryControllerState implements ControllerState {
  readonly #backend: MemoryStateBackend;

  constructor(backend = new MemoryStateBackend()) {
    this.#backend = backend;
  }

  async get(key: string, signal: AbortSignal): Promise<StateDocument | undefined> {
    this.#check(key, signal);
    const document = this.#backend.documents.get(key);
    return document === undefined ? undefined : { value: JSON.parse(document.text), version: document.version };
  }

  async compareAndSwap(
    key: string,
    expected: string | undefined,
    value: unknown,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    this.#check(key, signal);
    const text = encodeStateDocument(key, value);
    if (this.#backend.documents.get(key)?.version !== expected) return undefined;
    const version = this.#backend.nextVersion();
    this.#backend.documents.set(key, { text, version });
    return version;
  }

  async list(folder: string, signal: AbortSignal): Promise<readonly string[]> {
    this.#check(folder, signal);
    return [...this.#backend.documents.keys()].filter((key) => key.startsWith(`${folder}/`));
  }

  async remove(key: string, expected: string, signal: AbortSignal): Promise<boolean> {
    this.#check(key, signal);
    return this.#backend.documents.get(key)?.version === expected && this.#backend.documents.delete(key);
  }

  #check(key: string, signal: AbortSignal): void {
    parseStateKey(key);
    signal.throwIfAborted();
    if (this.#backend.isBroken) throw transient('StoreUnavailable', 'the test has broken this state');
  }
}
