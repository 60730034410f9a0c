import { transient } from '../domain/errors.ts';
import { grantKey, grantSchema, isExpired, type Grant, type GrantKind } from '../domain/grant.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { Clock } from '../ports/clock.ts';
import type { ControllerState } from '../ports/controller-state.ts';

export interface GrantsOptions {
  readonly state: ControllerState;
  readonly clock: Clock;
}

/** A grant that may be used, and what it takes to use it up. */
export interface OpenGrant extends Grant {
  readonly kind: GrantKind;
  readonly version: string;
}

/** Reads what the operator has granted, and uses it up. */
export class Grants {
  readonly #options: GrantsOptions;

  constructor(options: GrantsOptions) {
    this.#options = options;
  }

  /** Throws `StoreUnavailable` where it cannot be told. */
  async open(kind: GrantKind, workspace: WorkspaceKey, signal: AbortSignal): Promise<OpenGrant | undefined> {
    const { state, clock } = this.#options;
    const key = grantKey(kind, workspace);
    const document = await state.get(key, signal);
    if (document === undefined) return undefined;
    const { data } = grantSchema.safeParse(document.value);
    if (data === undefined)
      throw transient('StoreUnavailable', `the controller state ${key} cannot be read; remove it and grant anew`);
    return isExpired(data, clock.now()) ? undefined : { ...data, kind, version: document.version };
  }

  /** One that was granted anew meanwhile stays. */
  async spend(workspace: WorkspaceKey, spent: readonly OpenGrant[], signal: AbortSignal): Promise<void> {
    for (const { kind, version } of spent) await this.#options.state.remove(grantKey(kind, workspace), version, signal);
  }
}
