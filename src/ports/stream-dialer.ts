import type { Duplex } from 'node:stream';

/** The way to one place: how an SSH session or a Docker engine is reached. The composition root wires one into another. */
export interface StreamDialer {
  /**
   * A new stream to the place, connected. Throws `Unreachable` (transient) and whatever else the way can say of itself;
   * `aborted` when `signal` aborts, which has no hold on the stream any more once it is handed over. A way that knows
   * why its stream broke destroys it with a ReconcileError that says so.
   */
  dial(signal: AbortSignal): Promise<Duplex>;
}
