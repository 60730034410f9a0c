import { SystemClock } from '../../src/adapters/system/clock.ts';
import { describeClock } from './clock.ts';

describeClock('SystemClock', () => {
  const clock = new SystemClock();
  return { clock, pass: (ms) => clock.sleep(ms, new AbortController().signal) };
});
