import { FakeClock } from '../support/fake-clock.ts';
import { describeClock } from './clock.ts';

describeClock('FakeClock', () => {
  const clock = new FakeClock();
  return { clock, pass: (ms) => clock.advance(ms) };
});
