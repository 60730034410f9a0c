import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import type { App, RunEvents } from '../../../src/app.ts';
import type { CliContext } from '../../../src/cli/context.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';
import { runInProcess, startCli } from '../../support/run-cli.ts';
import { tempDir } from '../../support/temp-dir.ts';

const COMMANDS = [
  'apply',
  'delete',
  'validate',
  'status',
  'explain',
  'plan',
  'run',
  'once',
  'reconcile',
  'completion',
  'doctor',
  'config',
  'profiles',
  'manifests',
  'takeover',
  'import',
  'approve',
  'pause',
  'resume',
] as const;

describe('plugset', () => {
  it('lists every command with one line', async () => {
    const { code, stdout } = await runInProcess(['--help']);
    expect(code).toBe(0);
    for (const name of COMMANDS) expect(stdout).toMatch(new RegExp(`^ {2}${name} .*\\S {2,}\\S`, 'm'));
  });

  it.each(COMMANDS)('%s --help has examples and its exit codes', async (name) => {
    const { code, stdout, stderr } = await runInProcess([name, '--help']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^Examples:\n {2}/m);
    expect(stdout).toMatch(/^Exit codes: 0 /m);
    expect(stdout.split('\n').filter((line) => line.length > 120)).toEqual([]);
  });

  it('prints its version', async () => {
    expect((await runInProcess(['--version'])).stdout).toBe('9.9.9\n');
    expect((await runInProcess(['version'])).stdout).toBe('9.9.9\n');
  });

  it.each([
    [
      ['stats'],
      /^error: unknown command 'stats'\n\(Did you mean status\?\)\nRun plugset --help for what it takes\.\n$/,
    ],
    [['status', '--colour'], /^error: unknown option '--colour'\nRun plugset status --help for what it takes\.\n$/],
    [
      ['reconcile'],
      /^error: missing required argument 'WORKSPACE'\nRun plugset reconcile --help for what it takes\.\n$/,
    ],
    [['status', '-n', 'A B'], /^error: namespace "A B": must be lower-case letters/],
    [
      ['status', '--files', ''],
      /^error: no store: give --files DIR or --kubernetes, set DATABASE_URL to a Postgres, or .*\n$/,
    ],
  ])('%j is refused with 1', async (argv, stderr) => {
    const run = await runInProcess([...argv, ...(argv.includes('--files') ? ['--database', ''] : [])]);
    expect(run).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(stderr) });
  });
});

describe('run', () => {
  /** A daemon that tells of itself and drains when it is asked to. */
  function daemon(drain: (signal: AbortSignal) => Promise<void>): {
    openApp: CliContext['openApp'];
    closed: () => boolean;
  } {
    let isClosed = false;
    const app = {
      run: (signal: AbortSignal, events: RunEvents) => {
        events.onStandby?.('host-7');
        events.onLeading?.();
        return drain(signal);
      },
      close: async () => void (isClosed = true),
    } as unknown as App;
    const openApp: CliContext['openApp'] = async (_config, _logger, _role, patience) => {
      patience?.onListening?.('http://127.0.0.1:9464');
      return app;
    };
    return { openApp, closed: () => isClosed };
  }

  const untilAborted = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    });

  it('ends with 0 after a clean drain, and keeps the outputs to the logger', async () => {
    const { openApp, closed } = daemon(untilAborted);
    const cli = startCli(['run', '--files', 'x'], { openApp });
    cli.interrupt();
    expect(await cli.finished).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(closed()).toBe(true);
  });

  it('logs the settings in force, with where each was given, once, and no password', async () => {
    const { openApp } = daemon(untilAborted);
    const logger = new RecordingLogger();
    const argv = ['run', '--database', 'postgres://us:hunter2@db.example/fleet', '--workers', '7'];
    const cli = startCli(argv, { openApp, createLogger: () => logger });
    cli.interrupt();
    expect(await cli.finished).toMatchObject({ code: 0, stderr: '' });
    expect(logger.lines.filter(({ message }) => message === 'settings')).toMatchObject([
      {
        level: 'info',
        fields: {
          settings: {
            store: { postgres: { url: 'postgres://us:***@db.example/fleet' } },
            policy: { mode: 'Apply', drift: 'Enforce' },
            guards: { removedPlugins: 3 },
            limits: { workers: 7, perEngine: 6, probeInterval: '30s' },
          },
          given: { 'store.postgres.url': '--database', 'limits.workers': '--workers' },
        },
      },
    ]);
    expect(JSON.stringify(logger.lines)).not.toContain('hunter2');
  });

  it('tells a person at a terminal where it stands', async () => {
    const { openApp } = daemon(untilAborted);
    const cli = startCli(['run', '--files', 'x'], { openApp, isTerminal: true });
    cli.interrupt();
    expect((await cli.finished).stderr).toBe(
      'metrics: http://127.0.0.1:9464\nstanding by: host-7 leads\nleading; Ctrl-C stops\n',
    );
  });

  it('does not begin with a webhook that has no secret', async () => {
    const dir = await tempDir();
    const config = join(dir, 'plugset.yaml');
    const head = 'apiVersion: plugset.dev/v1alpha1\nkind: Configuration\nstore: {files: w}\n';
    await writeFile(config, `${head}notifications:\n  webhook: {url: "https://h.example/", secretFile: secret}\n`);
    for (const command of ['run', 'once'])
      expect(await runInProcess([command, '--config', config])).toMatchObject({
        code: 1,
        stderr: `error: ${config}:5: notifications.webhook.secretFile: ${dir}/secret cannot be read (ENOENT)\n`,
      });
    // Who only looks need not be able to read it.
    expect((await runInProcess(['plan', '--config', config])).stderr).toContain('this test opens no app');
  });

  it('ends with 0 when it is to end before the store has answered', async () => {
    const openApp: CliContext['openApp'] = async (_config, _logger, _role, patience) => {
      if (patience === undefined) throw new Error('a daemon has patience');
      await untilAborted(patience.signal);
      throw patience.signal.reason;
    };
    const cli = startCli(['run', '--files', 'x'], { openApp });
    cli.interrupt();
    expect(await cli.finished).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  it('ends with 1 when it cannot go on', async () => {
    const { openApp, closed } = daemon(() => Promise.reject(new Error('address in use')));
    const { code, stderr } = await runInProcess(['run', '--files', 'x'], { openApp });
    expect(code).toBe(1);
    expect(stderr).toContain('address in use');
    expect(closed()).toBe(true);
  });
});
