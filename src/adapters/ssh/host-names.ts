import type { LookupAddress } from 'node:dns';
import { lookup, Resolver } from 'node:dns/promises';
import { isIP } from 'node:net';

import { onAbort, untilAborted } from '../../ports/abort.ts';
import { Slots } from './slots.ts';

/** Of the threads of this process there are four, files are read on them too, and a lookup of the system cannot be ended. */
const QUICK_AT_A_TIME = 2;
const SLOW_AT_A_TIME = 1;
const PATIENCE_MS = 1_500;

export interface NameServers {
  /** Whether somebody answers for a name, whatever the answer. Costs no thread. */
  answer(host: string, signal: AbortSignal): Promise<boolean>;
  /** What the system makes of it: its file of hosts and its search domains count too. Costs a thread for as long as it takes. */
  addresses(host: string): Promise<readonly LookupAddress[]>;
}

/**
 * Addresses of hosts. Whoever names hosts can name a thousand that no server answers for, and each of them would hold a thread
 * for many seconds: so they are told apart first, and wait for each other.
 */
export class HostNames {
  readonly #servers: NameServers;
  readonly #quick = new Slots(QUICK_AT_A_TIME);
  readonly #slow = new Slots(SLOW_AT_A_TIME);

  constructor(servers: NameServers = nameServers()) {
    this.#servers = servers;
  }

  /** Throws what the system says (`ENOTFOUND`, `EAI_AGAIN`), and the reason of `signal`. */
  async addressesOf(host: string, signal: AbortSignal): Promise<readonly LookupAddress[]> {
    const family = isIP(host);
    if (family !== 0) return [{ address: host, family }];
    const isAnswered = await this.#servers.answer(host, signal);
    signal.throwIfAborted();
    const leave = await (isAnswered ? this.#quick : this.#slow).take(signal);
    // Its place is free again when it has ended by itself.
    return untilAborted(this.#servers.addresses(host).finally(leave), signal);
  }
}

/** `at`: their addresses; left out, those that the system asks. */
export function nameServers(at?: readonly string[]): NameServers {
  return {
    answer: async (host, signal) => {
      const resolver = new Resolver({ timeout: PATIENCE_MS, tries: 1 });
      if (at !== undefined) resolver.setServers(at);
      const unlink = onAbort(signal, () => resolver.cancel());
      // The system asks for both, and waits for both.
      const asked = [resolver.resolve4(host), resolver.resolve6(host)];
      const answered = await Promise.all(asked.map(hasAnswer)).finally(unlink);
      return answered.every(Boolean);
    },
    addresses: (host) => lookup(host, { all: true }),
  };
}

async function hasAnswer(question: Promise<unknown>): Promise<boolean> {
  try {
    await question;
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code !== 'ETIMEOUT' && code !== 'ECANCELLED';
  }
}
