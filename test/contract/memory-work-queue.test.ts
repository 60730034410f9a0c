import { MemoryWorkQueue } from '../../src/controller/work-queue.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { recordingMetrics } from '../support/recording-metrics.ts';
import { describeWorkQueue } from './work-queue.ts';

describeWorkQueue('MemoryWorkQueue', () => {
  const clock = new FakeClock();
  const queue = new MemoryWorkQueue<string>({ clock, metrics: recordingMetrics() });
  return Promise.resolve({ queue, pass: (ms) => clock.advance(ms) });
});
