import { describe, expect, it } from 'vitest';

import { SharedStrings } from '../../../src/reconcile/shared-strings.ts';

describe('a copy with shared strings', () => {
  it('is equal to what it was made of', () => {
    const value = {
      owner: { uid: 0, gid: 0 },
      plugins: [{ name: 'alpha', differing: ['a', 'b'], receipt: undefined, present: true }],
      // Half a surrogate pair, as a receipt on a target may hold one.
      odd: ['\ud83d', ''],
      nothing: null,
    };
    expect(new SharedStrings().copy(value)).toStrictEqual(value);
  });

  it('is a copy also where more different texts went through than it remembers', () => {
    const strings = new SharedStrings();
    const many = Array.from({ length: 50_000 }, (_, index) => `text ${index}`);
    expect(strings.copy(many)).toEqual(many);
    expect(strings.copy(many)).not.toBe(many);
  });
});
