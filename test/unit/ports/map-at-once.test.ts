import { describe, expect, it } from 'vitest';

import { mapAtOnce } from '../../../src/ports/map-at-once.ts';

describe('mapAtOnce', () => {
  it('works on so many at a time and no more, and answers in order', async () => {
    let running = 0;
    let most = 0;
    const work = async (item: number): Promise<number> => {
      most = Math.max(most, (running += 1));
      for (let turns = 0; turns < 10 - item; turns += 1) await Promise.resolve();
      running -= 1;
      return item * 2;
    };
    expect(await mapAtOnce(3, [1, 2, 3, 4, 5, 6, 7], work)).toEqual([2, 4, 6, 8, 10, 12, 14]);
    expect(most).toBe(3);
  });

  it('has nothing to do with nothing', async () => {
    expect(await mapAtOnce(3, [], () => Promise.reject(new Error('never called')))).toEqual([]);
  });

  it('begins nothing after a failure, and throws it when what has begun is over', async () => {
    const begun: string[] = [];
    const ended: string[] = [];
    let goOn: () => void = () => undefined;
    const slow = new Promise<void>((resolve) => (goOn = resolve));
    const all = mapAtOnce(2, ['bad', 'slow', 'late'], async (item) => {
      begun.push(item);
      if (item === 'bad') {
        setImmediate(goOn);
        throw new Error('no');
      }
      await slow;
      ended.push(item);
    });
    await expect(all).rejects.toThrow('no');
    expect({ begun, ended }).toEqual({ begun: ['bad', 'slow'], ended: ['slow'] });
  });
});
