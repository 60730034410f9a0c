import { execFile, spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { setTimeout as pause } from 'node:timers/promises';

import { freeAddress, startDaemon } from './daemon.ts';
import { openDatabase } from './database.ts';
import { declare, EXAMPLES, makeWorkspaces } from './examples.ts';
import { Place } from './place.ts';
import { makeCommands, makeProps, plugsetSettings } from './props.ts';
import { changes, looks, type Access, type Change, type Tryout } from './tryouts.ts';
import { messageOf, Undo } from './undo.ts';
import { Watcher } from './watcher.ts';

/*
 * `npm start`: a Postgres, three workspaces that are declared in it, and a daemon that keeps them so, all on this
 * machine; then what to try in a second terminal. With `--check` it tries all of that itself, and ends.
 */

const PATIENCE_MS = 60_000;

interface Stage {
  readonly place: Place;
  readonly access: Access;
  readonly watcher: Watcher;
  readonly metricsUrl: string;
  /** Rejects when the story cannot go on. */
  readonly broken: Promise<never>;
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { check: { type: 'boolean' }, dir: { type: 'string' } } });
  const undo = new Undo();
  const interruption = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (interruption.signal.aborted) process.exit(130);
      interruption.abort();
    });
  }
  try {
    const stage = await setUp(undo, values.dir, interruption.signal);
    const story = values.check === true ? check(stage) : show(stage);
    await Promise.race([story, stage.broken]);
    return 0;
  } catch (error) {
    if (interruption.signal.aborted) return values.check === true ? 130 : 0;
    console.error(messageOf(error));
    return 1;
  } finally {
    await undo.run();
  }
}

/** Everything up to the three workspaces being declared. */
async function setUp(undo: Undo, dir: string | undefined, signal: AbortSignal): Promise<Stage> {
  const place = await Place.claim(dir);
  undo.later(() => place.release());
  await makeProps(place);
  signal.throwIfAborted();

  const database = await openDatabase(place, process.env['DATABASE_URL']);
  undo.later(() => database.stop());
  console.log(`Postgres:    ${database.how}`);
  signal.throwIfAborted();

  const engine = await makeWorkspaces(place, undo);
  console.log(`Workspaces:  ${engine.how}`);
  signal.throwIfAborted();

  const listen = await freeAddress();
  const settings = plugsetSettings(place, database.url, listen, engine.address);
  await makeCommands(place, settings);
  const daemon = await startDaemon(place, { ...basicEnvironment(), ...settings }, `http://${listen}`);
  undo.later(() => daemon.stop());
  console.log(`Daemon:      plugset run, its log is ${place.shown('daemon.log')}\n`);
  signal.throwIfAborted();

  const watcher = new Watcher(database.url);
  undo.later(() => watcher.close());
  await watcher.open();
  const broken = Promise.race([daemon.ended, watcher.watch(signal)]);
  broken.catch(() => undefined);
  await declare(watcher, engine.targetOf, place);
  return { place, access: engine.access, watcher, metricsUrl: `http://${listen}`, broken };
}

/** For a person: what to try, until Ctrl-C. */
async function show(stage: Stage): Promise<never> {
  await untilReady(stage);
  const { place, access, metricsUrl, broken } = stage;
  console.log(
    `\nAll three are as declared. Try these in a second terminal, and watch this one:\n\n  cd ${process.cwd()}\n`,
  );
  for (const tryout of changes(place, access)) printTryout(tryout);
  if (commandExists('psql')) console.log(`  (SQL with your own psql: ${place.shown('psql')})\n`);
  for (const tryout of looks(place, metricsUrl)) printTryout(tryout);
  console.log(
    'Ctrl-C ends everything and cleans up. The daemon looks at every file each 3 s here; by default each 10 min.\n',
  );
  return broken;
}

/** For a test: tries all of it. */
async function check(stage: Stage): Promise<void> {
  await untilReady(stage);
  const { place, access, watcher, metricsUrl } = stage;
  for (const change of changes(place, access)) await tryChange(change, watcher);
  const isEndless = (tryout: Tryout): boolean => tryout.command.endsWith(' -w');
  const hasCurl = commandExists('curl');
  for (const tryout of looks(place, metricsUrl)) {
    if (isEndless(tryout) || (tryout.command.startsWith('curl') && !hasCurl)) continue;
    await tryOut(tryout);
  }
}

async function untilReady({ watcher, broken }: Stage): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!EXAMPLES.every((name) => watcher.isReady(name))) {
    if (performance.now() > deadline) throw new Error('the examples are not as declared after a minute');
    await Promise.race([pause(50), broken]);
  }
}

async function tryOut({ title, command }: Tryout): Promise<void> {
  console.log(`\n${title === '' ? '' : `${title}\n`}$ ${command}`);
  const { code, output } = await shell(command);
  if (output !== '') console.log(output);
  if (code !== 0) throw new Error(`exit code ${code}: ${command}`);
}

async function tryChange(change: Change, watcher: Watcher): Promise<void> {
  const before = watcher.timesDone(change.workspace);
  await tryOut(change);
  const deadline = performance.now() + PATIENCE_MS;
  while (watcher.timesDone(change.workspace) === before || (await shell(change.proof)).code !== 0) {
    if (performance.now() > deadline) throw new Error(`after a minute this is still not so: ${change.proof}`);
    await pause(100);
  }
}

function shell(command: string): Promise<{ readonly code: number; readonly output: string }> {
  return new Promise((resolve) => {
    const child = execFile('sh', ['-c', command], { timeout: PATIENCE_MS }, (_error, stdout, stderr) => {
      resolve({ code: child.exitCode ?? -1, output: `${stdout}${stderr}`.trimEnd() });
    });
  });
}

function printTryout({ title, command }: Tryout): void {
  console.log(`${title === '' ? '' : `  ${title}\n`}    ${command}\n`);
}

function commandExists(name: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${name}`]).status === 0;
}

/** Settings of the shell that started us are not the demo's. */
function basicEnvironment(): NodeJS.ProcessEnv {
  const names = ['PATH', 'HOME', 'TMPDIR', 'LANG', 'DOCKER_CONFIG'];
  return Object.fromEntries(names.map((name) => [name, process.env[name]]));
}

process.exitCode = await main();
