/** At most so many at a time per host, in order of arrival: one slow host holds up nobody else. */
export class HostLanes {
  readonly #limit: number;
  readonly #lanes = new Map<string, { running: number; readonly waiting: (() => void)[] }>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Waits for a place; call what it answers when done. Rejects with the reason of `signal`. */
  async enter(host: string, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    const lane = this.#lanes.get(host) ?? { running: 0, waiting: [] };
    this.#lanes.set(host, lane);
    if (lane.running >= this.#limit) {
      await new Promise<void>((resolve, reject) => {
        const enter = (): void => {
          signal.removeEventListener('abort', giveUp);
          resolve();
        };
        const giveUp = (): void => {
          lane.waiting.splice(lane.waiting.indexOf(enter), 1);
          reject(signal.reason as Error);
        };
        lane.waiting.push(enter);
        signal.addEventListener('abort', giveUp, { once: true });
      });
    } else lane.running += 1;
    return () => {
      const next = lane.waiting.shift();
      if (next !== undefined) return next(); // The place is handed over, not given back.
      lane.running -= 1;
      if (lane.running === 0) this.#lanes.delete(host);
    };
  }
}
