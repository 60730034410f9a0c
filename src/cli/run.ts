import { statSync } from 'node:fs';

import { Command } from 'commander';

import type { App } from '../app.ts';
import { gatherSettings, notifyingConfigOf, type Gathered } from '../config.ts';
import { maskSettings } from '../config/describe.ts';
import { watchConfig } from './config-watch.ts';
import type { CliContext, Ends, ExitCode } from './context.ts';
import { addDaemonOptions } from './session.ts';

export function runCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('run')
    .summary('the daemon: keep everything as declared, until stopped')
    .description(
      'Keeps every declared workspace as it is declared, until it is stopped. Several on one store are fine:\n' +
        'one acts, the others stand by and take over when it goes. Logs are JSON lines on standard output.',
    )
    .addHelpText('after', HELP)
    .action(async (_options: unknown, self: Command) => ends(await run(context, self)));
  return addDaemonOptions(command);
}

const HELP = `
Examples:
  plugset run --files workspaces/ --root /srv/agents --registry plugins/
  DATABASE_URL=postgres://… plugset run
  plugset run --config plugset.yaml
  curl http://127.0.0.1:9464/metrics      also /livez and /readyz

The configuration file is looked at every 5 seconds. What changed is taken up at once, where that is safe: passes under
way end under the old settings, then every workspace has a pass under the new ones. What needs a restart is said in the
log (plugset config shows both). A file that cannot be used changes nothing.

Stopping: the first SIGTERM or SIGINT lets running changes end (--grace) and gives the lease back; a second one ends at
once, which is safe as well: the next pass finishes what was begun.

While the store does not answer it waits: /livez, /metrics and /readyz (which says so) answer all the same.

Exit codes: 0 stopped and drained, 1 could not start or go on, 130 or 143 ended at once by a second signal.`;

async function run(context: CliContext, command: Command): Promise<ExitCode> {
  const gathered = gatherSettings(command.opts());
  const config = notifyingConfigOf(gathered);
  const logger = context.createLogger(config.logLevel, 'stdout');
  const { settings, origins, file } = gathered;
  logger.info('settings', { file, settings: maskSettings(settings), given: Object.fromEntries(origins) });
  const note = (text: string): void => {
    if (context.stderr.isTerminal) context.stderr.write(`${text}\n`);
  };
  const onListening = (url: string): void => note(`metrics: ${url}`);
  const app = await opened(
    context.openApp(config, logger, 'controller', { signal: context.signal, onListening }),
    context.signal,
  );
  if (app === undefined) return 0;
  const ended = new AbortController();
  const gather = (): Gathered => gatherSettings(command.opts());
  // What comes through a pipe can be read once.
  const watching =
    file === undefined || !statSync(file).isFile()
      ? undefined
      : watchConfig({ app, first: gathered, gather, clock: context.clock, logger }, ended.signal);
  try {
    await app.run(context.signal, {
      onStandby: (holder) => note(`standing by: ${holder} leads`),
      onLeading: () => note('leading; Ctrl-C stops'),
    });
    return 0;
  } finally {
    ended.abort();
    await watching;
    await app.close();
  }
}

/** `undefined` when it was to end before the store had answered. */
async function opened(opening: Promise<App>, signal: AbortSignal): Promise<App | undefined> {
  try {
    return await opening;
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}
