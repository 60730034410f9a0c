// The built daemon in a process of its own, which kills or freezes itself when a pass enters a phase. Plain JavaScript
// on dist/, because Node 20 runs no TypeScript and a process that is to be killed cannot live inside the test runner.
//
//   PLUGSET_TEST_CONFIG   the Config, as JSON
//   PLUGSET_TEST_FAULT    {"phase": "converge", "nth": 1, "signal": "SIGKILL", "afterMs": 0}; left out: no fault
import { openApp } from '../../dist/app.js';

const config = JSON.parse(process.env.PLUGSET_TEST_CONFIG);
const fault = process.env.PLUGSET_TEST_FAULT === undefined ? undefined : JSON.parse(process.env.PLUGSET_TEST_FAULT);
let seen = 0;

function log(level, bound, message, fields = {}) {
  const all = { ...bound, ...fields };
  const error =
    all.error instanceof Error
      ? { reason: all.error.reason, message: all.error.message, stack: all.error.stack }
      : all.error;
  process.stdout.write(`${JSON.stringify({ level, message, ...all, error })}\n`);
  if (message !== 'phase' || all.phase !== fault?.phase || ++seen !== fault.nth) return;
  const strike = () => process.kill(process.pid, fault.signal);
  if (fault.afterMs > 0) setTimeout(strike, fault.afterMs);
  else strike();
}

function logger(bound) {
  return {
    debug: (message, fields) => log('debug', bound, message, fields),
    info: (message, fields) => log('info', bound, message, fields),
    warn: (message, fields) => log('warn', bound, message, fields),
    error: (message, fields) => log('error', bound, message, fields),
    with: (fields) => logger({ ...bound, ...fields }),
  };
}

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort(new Error('SIGTERM')));
const app = await openApp(config, logger({}));
await app.run(stop.signal);
await app.close();
