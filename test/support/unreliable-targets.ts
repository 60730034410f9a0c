import type { ReconcileError } from '../../src/domain/errors.ts';
import type { TargetProvider } from '../../src/ports/workspace-target.ts';

/** Targets of directories, of which a test says which cannot be reached for a while. */
export class UnreliableTargets implements TargetProvider {
  readonly kind = 'directory';
  /** By the end of the path. */
  readonly failures = new Map<string, ReconcileError>();
  /** Whether their files may come back with another one. */
  keepsFiles = false;
  readonly #inner: TargetProvider;

  constructor(inner: TargetProvider) {
    this.#inner = inner;
  }

  addresses(...args: Parameters<TargetProvider['addresses']>): readonly string[] {
    return this.#inner.addresses(...args);
  }

  lane(...args: Parameters<TargetProvider['lane']>): string {
    return this.#inner.lane(...args);
  }

  async locate(...args: Parameters<TargetProvider['locate']>): ReturnType<TargetProvider['locate']> {
    const [path] = this.addresses(args[0]);
    for (const [end, failure] of this.failures) if (path?.endsWith(end) === true) throw failure;
    const target = await this.#inner.locate(...args);
    return this.keepsFiles ? Object.assign(target, { keepsFiles: () => true }) : target;
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}
