import fc from 'fast-check';
import { expect, it } from 'vitest';

import { canonicalJson } from '../../../src/domain/digest.ts';
import { isSameData } from '../../../src/domain/same-data.ts';

it('says of any two values what their canonical JSON says', () => {
  const value = fc.jsonValue({ maxDepth: 3 }).filter((one) => !JSON.stringify(one).includes('__proto__'));
  fc.assert(
    fc.property(value, value, (a, b) => {
      // Less than nothing is nothing in JSON.
      const isSame = canonicalJson(a).replaceAll('-0', '0') === canonicalJson(b).replaceAll('-0', '0');
      expect(isSameData(a, b)).toBe(isSame);
      expect(isSameData(a, structuredClone(a))).toBe(true);
    }),
  );
});

it.each([
  [{ a: 1, b: 2 }, { b: 2, a: 1 }, true],
  [{ a: 1, b: undefined }, { a: 1 }, true],
  [{ a: 1 }, { b: undefined, a: 1 }, true],
  [{ a: 1 }, { a: 1, b: 2 }, false],
  [[1, 2], [2, 1], false],
  [[], {}, false],
  [{ a: [{ b: 'x' }] }, { a: [{ b: 'x' }] }, true],
  [{ a: [{ b: 'x' }] }, { a: [{ b: 'y' }] }, false],
  [null, {}, false],
])('%j and %j: %s', (a, b, isSame) => {
  expect(isSameData(a, b)).toBe(isSame);
});
