import { describe, expect, it } from 'vitest';

import { countOf, printable, statusText } from '../../../src/domain/text.ts';

describe('text of others', () => {
  it('becomes one line without anything that a terminal would obey', () => {
    expect(printable('a\u001b[31mb\r\n  c\u202ed\u009be\tf')).toBe('a?[31mb c?d?e?f');
  });

  it('is cut to what a status may hold', () => {
    expect(statusText('x'.repeat(5000))).toBe(`${'x'.repeat(1023)}…`);
    expect(statusText('short')).toBe('short');
  });
});

describe('amounts', () => {
  it('take the plural but for one', () => {
    expect([0, 1, 2].map((amount) => countOf(amount, 'plugin'))).toEqual(['0 plugins', '1 plugin', '2 plugins']);
  });
});
