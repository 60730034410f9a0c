import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import { watchConfig } from '../../../src/cli/config-watch.ts';
import { gatherSettings, type Config } from '../../../src/config.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';
import { recordingMetrics, type RecordingMetrics } from '../../support/recording-metrics.ts';
import { tempDir } from '../../support/temp-dir.ts';

describe('the configuration file of a running daemon', () => {
  let path: string;
  let clock: FakeClock;
  let logger: RecordingLogger;
  let taken: Config[];
  /** What the daemon says to new settings. */
  let refuses: Error | undefined;
  let metrics: RecordingMetrics;
  let stop: AbortController;
  let watching: Promise<void>;

  const write = (body: string): Promise<void> =>
    writeFile(path, `apiVersion: plugset.dev/v1alpha1\nkind: Configuration\nstore: {files: w}\n${body}`);
  const look = (): Promise<void> => clock.advance(5_000);
  const logged = (message: string): number => logger.lines.filter((line) => line.message.includes(message)).length;

  beforeEach(async () => {
    path = join(await tempDir(), 'plugset.yaml');
    await write('limits: {workers: 2}\n');
    clock = new FakeClock();
    logger = new RecordingLogger();
    taken = [];
    stop = new AbortController();
    const gather = (): ReturnType<typeof gatherSettings> => gatherSettings({ config: path });
    metrics = recordingMetrics();
    refuses = undefined;
    const reconfigure = (config: Config): void => {
      if (refuses !== undefined) throw refuses;
      taken.push(config);
    };
    const app = { reconfigure, metrics };
    watching = watchConfig({ app, first: gather(), gather, clock, logger }, stop.signal);
  });

  const end = async (): Promise<void> => {
    stop.abort();
    await watching;
  };

  it('is taken up when it changed, and only then', async () => {
    await look();
    expect(taken).toEqual([]);
    await write('limits: {workers: 3}\n');
    await look();
    await look();
    expect(taken.map(({ workers }) => workers)).toEqual([3]);
    await end();
  });

  it('that names a webhook without a usable secret changes nothing', async () => {
    const secret = join(path, '../secret');
    const webhook = (url: string): Promise<void> =>
      write(`limits: {workers: 5}\nnotifications:\n  webhook: {url: "${url}", secretFile: secret}\n`);
    const said = (): string => String(logger.at('error').at(-1)?.fields['error']);
    await webhook('https://h.example/');
    await look();
    expect(said()).toMatch(/plugset\.yaml:6: notifications\.webhook\.secretFile: .*secret cannot be read \(ENOENT\)$/);
    await writeFile(secret, '\n');
    await look();
    expect(said()).toContain('secret holds nothing;');
    await writeFile(secret, 'too short\n');
    await look();
    expect(said()).toContain('secret holds less than 16 characters;');
    expect(taken).toEqual([]);
    await writeFile(secret, 'a secret that is long enough\n');
    await look();
    expect(taken.map(({ workers }) => workers)).toEqual([5]);
    await end();
  });

  it('changes nothing when it cannot be used, says so once, and when that is over', async () => {
    await write('limits: {workers: none}\n');
    await look();
    await look();
    expect(taken).toEqual([]);
    expect(logged('cannot be used')).toBe(1);
    await write('limits: {workers: 4}\n');
    await look();
    expect(metrics.argsOf('configured').map(([isUsable]) => isUsable)).toEqual([true, false, false, true]);
    expect(taken.map(({ workers }) => workers)).toEqual([4]);
    expect(logged('can be used again')).toBe(1);
    await end();
  });

  it('changes nothing when nothing can be made of it, and goes on watching', async () => {
    refuses = new Error('engine address tcp://nowhere is none');
    await write('limits: {workers: 5}\n');
    await look();
    await look();
    expect(logged('cannot be used')).toBe(1);
    expect(metrics.argsOf('configured').at(-1)?.[0]).toBe(false);
    refuses = undefined;
    await look();
    expect(taken.map(({ workers }) => workers)).toEqual([5]);
    await end();
  });

  it('says what waits for a restart, once', async () => {
    await write('limits: {workers: 2}\ntelemetry: {listen: ":9"}\n');
    await look();
    await look();
    expect(taken).toEqual([]);
    expect(logged('only a restart')).toBe(1);
    await end();
  });
});
