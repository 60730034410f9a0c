import { grantSchema, isExpired, type Grant, type GrantKind } from '../domain/grant.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { stateKey } from '../domain/state-key.ts';
import type { Clock } from '../ports/clock.ts';
import type { ControllerState } from '../ports/controller-state.ts';
import { readDocument } from './state-documents.ts';

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
    const removed = 'what it allowed can be allowed anew';
    const { data, version } = await readDocument(state, stateKey(kind, workspace), grantSchema, removed, signal);
    if (data === undefined || version === undefined || isExpired(data, clock.now())) return undefined;
    return { ...data, kind, version };
  }

  /** One that was granted anew meanwhile stays. */
  async spend(workspace: WorkspaceKey, spent: readonly OpenGrant[], signal: AbortSignal): Promise<void> {
    for (const { kind, version } of spent) await this.#options.state.remove(stateKey(kind, workspace), version, signal);
  }
}
