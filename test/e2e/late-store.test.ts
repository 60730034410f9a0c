import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { openApp } from '../../src/app.ts';
import { withBackend } from '../support/backend.ts';
import { CliInstallation } from '../support/cli-daemon.ts';
import { EmbeddedPostgres } from '../support/embedded-postgres.ts';
import { eventually } from '../support/eventually.ts';
import { startPlugset, type Plugset } from '../support/plugset.ts';
import { freePort } from '../support/free-port.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { tempDir } from '../support/temp-dir.ts';

interface Answers {
  readonly livez: number;
  readonly metrics: number;
  readonly readyz: string;
}

/** What a kubelet and a Prometheus see. */
async function answersOf(url: string): Promise<Answers> {
  const [livez, metrics, readyz] = await Promise.all(
    ['/livez', '/metrics', '/readyz?verbose'].map((path) => fetch(`${url}${path}`)),
  );
  if (livez === undefined || metrics === undefined || readyz === undefined) throw new Error('three were asked for');
  return { livez: livez.status, metrics: metrics.status, readyz: await readyz.text() };
}

await withBackend('postgres', () => {
  describe('a daemon whose store is not there yet', () => {
    let postgres: EmbeddedPostgres;
    beforeEach(async () => {
      const own = await EmbeddedPostgres.start();
      if (own === undefined) throw new Error('there are no binaries of Postgres');
      postgres = own;
      await postgres.pause();
    });
    afterEach(() => postgres.stop());

    it('answers for itself, says what it waits for, and leads when the store has come', async () => {
      // Only for its directories and its settings.
      const idle: Plugset = await startPlugset({ store: { kind: 'files' }, idle: true });
      const store = { kind: 'postgres', url: postgres.url, origin: 'the test' } as const;
      const stop = new AbortController();
      let url = '';
      let first: Promise<Response> | undefined;
      const onListening = (at: string): void => {
        url = at;
        first = fetch(`${at}/readyz`);
      };
      const patience = { signal: stop.signal, onListening };
      const opening = openApp({ ...idle.config, store }, new RecordingLogger(), { patience });
      try {
        await eventually(async () => {
          expect(url).not.toBe('');
          const { livez, metrics, readyz } = await answersOf(url);
          expect({ livez, metrics }).toEqual({ livez: 200, metrics: 200 });
          expect(readyz).toMatch(/^\[-\]store failed: waiting for the store: .*\(the test\): nothing listens there/m);
        });
        expect((await first)?.ok, 'ready before it knows of a store').toBe(false);
        await postgres.resume();
        const app = await opening;
        const running = app.run(stop.signal);
        await eventually(async () => expect((await answersOf(url)).readyz).toContain('readyz check passed'));
        // Away again for longer than a lease: it does not lead any more, and is no standby either.
        await postgres.pause();
        await eventually(async () => {
          const { livez, readyz } = await answersOf(url);
          expect(livez).toBe(200);
          expect(readyz).toMatch(/^\[-\]store failed: waiting for the store: /m);
        });
        await postgres.resume();
        await eventually(async () => expect((await answersOf(url)).readyz).toContain('readyz check passed'));
        stop.abort();
        await running;
        await app.close();
        await expect(fetch(`${url}/livez`)).rejects.toThrow('fetch failed');
      } finally {
        stop.abort();
        await opening.catch(() => undefined);
        await idle.stop();
      }
    });

    it('ends in good order when it is told to while it waits', async () => {
      const dir = await tempDir();
      const config = join(dir, 'plugset.yaml');
      await mkdir(join(dir, 'home'));
      await writeFile(
        config,
        `apiVersion: plugset.dev/v1alpha1\nkind: Configuration\nstore: {postgres: {url: "${postgres.url}"}}\n`,
      );
      const installation = new CliInstallation(config, join(dir, 'home'));
      const listen = `127.0.0.1:${await freePort()}`;
      const daemon = installation.daemon(listen);
      await eventually(async () =>
        expect((await answersOf(`http://${listen}`)).readyz).toContain('waiting for the store: '),
      );
      const ended = once(daemon, 'exit');
      daemon.kill('SIGTERM');
      expect(await ended).toEqual([0, null]);
    });
  });
});
