import { describe, expect, it } from 'vitest';

import { formatAge, formatDuration, parseDuration } from '../../../src/cli/age.ts';

describe('formatDuration', () => {
  it.each([
    [-5, '0s'],
    [999, '0s'],
    [119_999, '119s'],
    [120_000, '2m'],
    [250_000, '4m10s'],
    [600_000, '10m'],
    [3 * 3_600_000, '3h'],
    [3.5 * 3_600_000, '3h30m'],
    [9 * 3_600_000, '9h'],
    [50 * 3_600_000, '2d2h'],
    [30 * 86_400_000, '30d'],
    [800 * 86_400_000, '2y'],
  ])('%d ms is %s', (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });
});

describe('formatAge', () => {
  it('is a dash without a time, or with one that is none', () => {
    expect(formatAge(undefined, 0)).toBe('-');
    expect(formatAge('yesterday', 0)).toBe('-');
    expect(formatAge('1970-01-01T00:00:00.000Z', 5000)).toBe('5s');
  });
});

describe('parseDuration', () => {
  it.each([
    ['90', 90_000],
    ['1.5s', 1500],
    ['5m', 300_000],
    ['1h', 3_600_000],
    ['20ms', 20],
  ])('%s', (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  it.each(['', 'm', '-5s', '5 m', '1d', '1e9'])('refuses %j', (text) => {
    expect(parseDuration(text)).toBeUndefined();
  });
});
