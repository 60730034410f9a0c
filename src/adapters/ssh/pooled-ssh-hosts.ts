import type { Duplex } from 'node:stream';

import { aborted, ReconcileError, transient } from '../../domain/errors.ts';
import { fingerprintOf } from '../../domain/host-key.ts';
import type { Activation } from '../../domain/profile.ts';
import type { Clock } from '../../ports/clock.ts';
import type { ControllerState } from '../../ports/controller-state.ts';
import type { SshEndpoint, SshHosts } from '../../ports/ssh-endpoint.ts';
import type { StreamDialer } from '../../ports/stream-dialer.ts';
import type { WorkspaceTarget } from '../../ports/workspace-target.ts';
import { Becoming } from './become.ts';
import { CommandDialer, type CommandDialerOptions } from './command-dialer.ts';
import type { SessionEars } from './connect-session.ts';
import { HostKeyPins } from './host-key-pins.ts';
import { SessionPool } from './session-pool.ts';
import { SocketDialer } from './socket-dialer.ts';
import { SshWorkspaceTarget, type SshTargetParts } from './ssh-workspace-target.ts';

export interface PooledSshHostsOptions extends SessionEars {
  /** Where host keys are pinned; asked for when the first host is connected to. */
  readonly state: () => ControllerState;
  readonly clock: Clock;
  /** Nothing is pinned, since whoever looks changes nothing. */
  readonly isLookOnly?: boolean | undefined;
}

/** Workspaces on hosts, over connections that are shared and kept. */
export class PooledSshHosts implements SshHosts {
  readonly #parts: SshTargetParts;

  constructor({ state, clock, isLookOnly, metrics, trace }: PooledSshHostsOptions) {
    const pins = new HostKeyPins(state, clock, { isLookOnly, trace });
    const pool = new SessionPool(clock, pins, { metrics, trace });
    this.#parts = { pool, becoming: new Becoming(trace), clock };
  }

  /** Costs nothing while a connection stands, or where somebody else says whose host it is. */
  async locate(
    endpoint: SshEndpoint,
    activation: Activation | undefined,
    signal: AbortSignal,
  ): Promise<WorkspaceTarget> {
    const identity = endpoint.identity ?? (await this.#shownBy(endpoint, signal));
    return new SshWorkspaceTarget(endpoint, this.#parts, identity, activation);
  }

  async #shownBy(endpoint: SshEndpoint, signal: AbortSignal): Promise<string> {
    try {
      const { session, release } = await this.#parts.pool.lease(endpoint, 'commands', signal);
      release();
      return `ssh:${fingerprintOf(session.hostKey)}`;
    } catch (error) {
      if (signal.aborted) throw aborted(`nobody waits for ${endpoint.description} any more`, error);
      if (error instanceof ReconcileError) throw error;
      throw transient('Unreachable', `${endpoint.description} could not be connected to`, error);
    }
  }

  /** The way to a Unix socket of a host, over the connection to it. */
  socketDialer(endpoint: SshEndpoint, path: string): StreamDialer {
    return new SocketDialer(endpoint, path, this.#parts);
  }

  /** The way to what a command of a host passes its stdin and stdout on to. */
  commandDialer(options: CommandDialerOptions): StreamDialer {
    return new CommandDialer(options, this.#parts);
  }

  release(endpointId: string, over?: Duplex): void {
    this.#parts.pool.release(endpointId, over);
  }

  close(): Promise<void> {
    return this.#parts.pool.close();
  }
}
