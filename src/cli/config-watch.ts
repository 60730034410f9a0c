import { notifyingConfigOf, type Gathered } from '../config.ts';
import { planReload } from '../config/reload.ts';
import type { App } from '../app.ts';
import type { Clock } from '../ports/clock.ts';
import type { Logger } from '../ports/logger.ts';

/** Polled, because a mounted ConfigMap and many editors replace the file, and what was watched is then another one. */
const INTERVAL_MS = 5_000;

export interface ConfigWatchOptions {
  readonly app: Pick<App, 'reconfigure' | 'metrics'>;
  readonly first: Gathered;
  /** Reads everything anew. */
  readonly gather: () => Gathered;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Takes up a changed configuration file while the daemon runs, and says in the log what was taken up and what waits for
 * a restart. A file that cannot be used, whatever is wrong with it, changes nothing and is said once. Ends with `signal`.
 */
export async function watchConfig(options: ConfigWatchOptions, signal: AbortSignal): Promise<void> {
  const { clock, logger, app } = options;
  let { settings } = options.first;
  let waiting = '';
  let problem: string | undefined;
  const tell = (isUsable: boolean): void => app.metrics.configured(isUsable, clock.now() / 1000);
  tell(true);
  while (await passes(clock.sleep(INTERVAL_MS, signal), signal)) {
    try {
      const gathered = options.gather();
      const reload = planReload(settings, gathered.settings);
      if (reload.waiting.join() !== waiting && reload.waiting.length > 0)
        logger.warn('settings changed that only a restart takes up', { settings: reload.waiting });
      waiting = reload.waiting.join();
      if (reload.applied.length > 0) {
        app.reconfigure(notifyingConfigOf({ ...gathered, settings: reload.settings }));
        ({ settings } = reload);
        logger.info('settings changed and are in force', { settings: reload.applied });
      }
      tell(true);
      if (problem !== undefined) logger.info('the configuration can be used again');
      problem = undefined;
    } catch (error) {
      // Not only a ConfigError: what the settings are made into may refuse them, and a running fleet must not stop for that.
      tell(false);
      const text = String(error);
      if (text !== problem)
        logger.error('the configuration cannot be used; the settings before stay in force', { error });
      problem = text;
    }
  }
}

/** `false` when it was called off. */
async function passes(wait: Promise<void>, signal: AbortSignal): Promise<boolean> {
  try {
    await wait;
    return true;
  } catch (error) {
    if (signal.aborted) return false;
    throw error;
  }
}
