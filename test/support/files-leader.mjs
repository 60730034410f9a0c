// One candidate for the lease of a state directory, in a process of its own so that it can be killed and stopped. Plain
// JavaScript on dist/, because Node 20 runs no TypeScript.
//
//   argv: state directory, holder    messages in: acquire, stop, release    out: {waiting}, {unable}, {fence}, {over}, {released}, {failed}
import { FilesLeadership } from '../../dist/adapters/files/files-leadership.js';
import { SystemClock } from '../../dist/adapters/system/clock.js';

const [stateDirectory, holder] = process.argv.slice(2);
const silent = { debug() {}, info() {}, warn() {}, error() {}, with: () => silent };
const leadership = new FilesLeadership({
  stateDirectory,
  holder,
  clock: new SystemClock(),
  logger: silent,
  checkMs: 100,
});
let stop = new AbortController();
let term;

const commands = {
  async acquire() {
    stop = new AbortController();
    try {
      term = await leadership.acquire(
        stop.signal,
        (waiting) => process.send({ waiting }),
        (why) => process.send({ unable: why ?? null }),
      );
      term.signal.addEventListener('abort', () => process.send({ over: true }));
      process.send({ fence: term.fence });
    } catch (error) {
      process.send({ failed: error.class });
    }
  },
  stop: () => stop.abort(new Error('enough')),
  async release() {
    await term.release();
    process.send({ released: true });
  },
};
process.on('message', (command) => commands[command]());
process.on('disconnect', () => process.exit());
