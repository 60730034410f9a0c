import { InvalidArgumentError } from 'commander';

import { parseDuration } from './age.ts';

/** Reads the value of an option that takes a duration, as milliseconds. */
export function durationFrom(text: string): number {
  const durationMs = parseDuration(text);
  if (durationMs === undefined) throw new InvalidArgumentError('give a number with s, m or h, such as 90s or 5m.');
  return durationMs;
}
