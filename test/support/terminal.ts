import { SystemClock } from '../../src/adapters/system/clock.ts';
import { openApp } from '../../src/app.ts';
import type { Config } from '../../src/config.ts';
import { openStore } from '../../src/stores.ts';
import { RecordingLogger } from './recording-logger.ts';
import { startCli, type CliRun, type RunningCli } from './run-cli.ts';

const clock = new SystemClock();

/** Commands as a person types them, on the real stores and targets, in this process. */
export class Terminal {
  readonly logger = new RecordingLogger();
  /** PATH of the shells on directory targets. */
  path = process.env['PATH'] ?? '';

  start(argv: readonly string[], stdin = ''): RunningCli {
    const withPath = (config: Config): Config => ({ ...config, path: this.path });
    return startCli(argv, {
      clock,
      stdin,
      openStore: (config, _logger, role) => openStore(config, { logger: this.logger, clock, role }),
      openApp: (config, _logger, role, patience) => openApp(withPath(config), this.logger, { role, patience }),
    });
  }

  run(argv: readonly string[], stdin = ''): Promise<CliRun> {
    return this.start(argv, stdin).finished;
  }
}
