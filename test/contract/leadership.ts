import { expect } from 'vitest';

import type { Leadership, LeaseHolder, Term } from '../../src/ports/leadership.ts';
import { eventually } from '../support/eventually.ts';
import { describeCases, type Cases, type Unsupported } from './cases.ts';

/** One process that may lead. */
export interface Candidate {
  readonly leadership: Leadership;
  /** What the others are told about it while they wait. */
  readonly holder: string | RegExp;
  /** It dies on the spot: nothing is given back. */
  crash(): Promise<void>;
}

/** One store whose leadership is fought for. */
export interface LeadershipBackend {
  /** `name`: what it calls itself to people, where that can be chosen. */
  open(name?: string): Promise<Candidate>;
  /** From here on nobody can ask it anything. */
  break(): Promise<void>;
  heal(): Promise<void>;
  /** Removes everything. Terms are released by then. */
  dispose(): Promise<void>;
}

export interface LeadershipHarness {
  create(): Promise<LeadershipBackend>;
  /** Cases that cannot hold here, by name, each with the reason. A name that is no case fails the suite. */
  readonly unsupported?: Unsupported;
}

interface CaseContext {
  readonly backend: LeadershipBackend;
  /** Campaigns; the term is released at the end of the case. */
  lead(candidate: Candidate, onWaiting?: (holder: string) => void): Promise<Term>;
  /** Campaigns until `stop` is called. */
  campaign(candidate: Candidate): Campaign;
}

interface Campaign {
  readonly holders: string[];
  /** What it was told of asking in vain; `undefined`: that is over. */
  readonly troubles: (string | undefined)[];
  readonly term: Promise<Term>;
  stop(): void;
}

export function describeLeadership(name: string, harness: LeadershipHarness): void {
  describeCases(`Leadership: ${name}`, CASES, harness.unsupported, async (later): Promise<CaseContext> => {
    const backend = await harness.create();
    later(() => backend.dispose());
    const campaign = (candidate: Candidate, onWaiting?: (holder: string) => void): Campaign => {
      const stop = new AbortController();
      const holders: string[] = [];
      const troubles: (string | undefined)[] = [];
      const term = candidate.leadership.acquire(
        stop.signal,
        (holder) => {
          holders.push(holder);
          onWaiting?.(holder);
        },
        (why) => troubles.push(why),
      );
      later(async () => {
        stop.abort(new Error('the case is over'));
        const won = await term.catch(() => undefined);
        await won?.release();
      });
      return { holders, troubles, term, stop: () => stop.abort(new Error('enough')) };
    };
    return { backend, campaign, lead: (candidate, onWaiting) => campaign(candidate, onWaiting).term };
  });
}

const CASES: Cases<CaseContext> = {
  'who is alone may act, under a fence that targets understand': async ({ backend, lead }) => {
    const { fence, signal } = await lead(await backend.open());
    expect(signal.aborted).toBe(false);
    expect(fence.authority).toMatch(/^[a-z0-9][a-z0-9._-]{0,127}$/);
    for (const number of [fence.epoch, fence.n]) {
      expect(Number.isInteger(number) && number > 0 && number < 1e15).toBe(true);
    }
  },

  'the second waits, is told for whom, and follows when the first gives back': async ({ backend, lead, campaign }) => {
    const [one, two] = [await backend.open(), await backend.open()];
    const first = await lead(one);
    const waiting = campaign(two);
    await eventually(() => expect(waiting.holders).toEqual([expect.stringMatching(one.holder)]));
    expect(await Promise.race([waiting.term, Promise.resolve('still waiting')])).toBe('still waiting');

    await first.release();
    const second = await waiting.term;
    expect(second.signal.aborted).toBe(false);
    expect(second.fence.authority).toBe(first.fence.authority);
    expect(second.fence.epoch).toBe(first.fence.epoch);
    expect(second.fence.n).toBeGreaterThan(first.fence.n);
    expect(waiting.holders).toHaveLength(1);
  },

  'the second waits also where both have one name': async ({ backend, lead, campaign }) => {
    const [one, two] = [await backend.open('twin'), await backend.open('twin')];
    const first = await lead(one);
    const waiting = campaign(two);
    await eventually(() => expect(waiting.holders).toEqual([expect.stringMatching(/twin/)]));
    expect(first.signal.aborted).toBe(false);
  },

  'releasing ends the term at once, and once is as good as twice': async ({ backend, lead }) => {
    const candidate = await backend.open();
    const term = await lead(candidate);
    const released = Promise.all([term.release(), term.release()]);
    expect(term.signal.aborted).toBe(true);
    await released;
    await term.release();
    const next = await lead(candidate);
    await term.release();
    expect(next.signal.aborted).toBe(false);
  },

  'every turn has a higher number, also of one and the same process': async ({ backend, lead }) => {
    const candidate = await backend.open();
    const numbers: number[] = [];
    for (let turn = 0; turn < 4; turn++) {
      const term = await lead(candidate);
      numbers.push(term.fence.n);
      await term.release();
    }
    expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
    expect(new Set(numbers).size).toBe(4);
  },

  'who stops waiting is told so, and takes nothing': async ({ backend, lead, campaign }) => {
    const [one, two, three] = [await backend.open(), await backend.open(), await backend.open()];
    const first = await lead(one);
    const waiting = campaign(two);
    await eventually(() => expect(waiting.holders).toHaveLength(1));
    waiting.stop();
    await expect(waiting.term).rejects.toMatchObject({ name: 'ReconcileError', class: 'aborted' });
    await expect(two.leadership.acquire(AbortSignal.abort(new Error('from the start')))).rejects.toMatchObject({
      class: 'aborted',
    });
    await first.release();
    expect((await lead(three)).signal.aborted).toBe(false);
  },

  'who cannot ask is told why, each time, and once that it is over': async ({ backend, campaign }) => {
    const candidate = await backend.open();
    await backend.break();
    const asking = campaign(candidate);
    await eventually(() => expect(asking.troubles.length).toBeGreaterThan(2));
    expect(asking.troubles).toEqual(asking.troubles.map(() => expect.stringMatching(/\w/)));
    await backend.heal();
    expect((await asking.term).signal.aborted).toBe(false);
    expect(asking.troubles.indexOf(undefined)).toBe(asking.troubles.length - 1);
  },

  'who can ask hears of no trouble, be it to lead or to wait': async ({ backend, campaign }) => {
    const [one, two] = [campaign(await backend.open()), campaign(await backend.open())];
    await Promise.race([one.term, two.term]);
    await eventually(() => expect([...one.holders, ...two.holders]).toHaveLength(1));
    expect([...one.troubles, ...two.troubles]).toEqual([]);
  },

  'of many, one acts at a time, and everybody gets a turn': async ({ backend, lead }) => {
    let acting = 0;
    const numbers: number[] = [];
    const turn = async (): Promise<void> => {
      const term = await lead(await backend.open());
      acting += 1;
      expect(acting).toBe(1);
      numbers.push(term.fence.n);
      await new Promise((resolve) => setImmediate(resolve));
      acting -= 1;
      await term.release();
    };
    await Promise.all(Array.from({ length: 5 }, turn));
    expect(numbers).toHaveLength(5);
    expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
    expect(new Set(numbers).size).toBe(5);
  },

  'anybody can ask who leads, and who did last': async ({ backend, lead }) => {
    const [one, two] = [await backend.open(), await backend.open()];
    const ask = (): Promise<LeaseHolder | undefined> => two.leadership.lastHolder(new AbortController().signal);
    expect(await ask()).toBeUndefined();
    const term = await lead(one);
    const leading = await ask();
    expect(leading).toMatchObject({ name: expect.stringMatching(one.holder), isLeading: true });
    expect(Date.parse(leading?.since ?? '')).toBeGreaterThan(0);
    await term.release();
    const last = await ask();
    expect(last).toMatchObject({ name: leading?.name, isLeading: false, since: leading?.since });
    if (last === undefined || last.isLeading) throw new Error('it leads again');
    expect(Date.parse(last.until)).toBeGreaterThanOrEqual(Date.parse(last.since));
  },

  'of a leader that died it is known that it leads no more': async ({ backend, lead }) => {
    const [one, two] = [await backend.open(), await backend.open()];
    await lead(one);
    await one.crash();
    await eventually(async () =>
      expect(await two.leadership.lastHolder(new AbortController().signal)).toMatchObject({ isLeading: false }),
    );
  },

  'who dies is followed by the next one': async ({ backend, lead }) => {
    const [one, two] = [await backend.open(), await backend.open()];
    const first = await lead(one);
    await one.crash();
    const second = await lead(two);
    expect(second.fence.authority).toBe(first.fence.authority);
    expect(second.fence.n).toBeGreaterThan(first.fence.n);
  },
};
