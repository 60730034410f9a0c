import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, describe, expect, it } from 'vitest';

import { openApp, type App } from '../../src/app.ts';
import type { WorkspaceManifest } from '../../src/domain/workspace.ts';
import { withBackend } from '../support/backend.ts';
import { freshDatabase } from '../support/fresh-database.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { startPlugset, writePlugin, type Plugset, type PlugsetOptions } from '../support/plugset.ts';

/** `once` is no second controller beside a daemon: it waits for the very same lease. */
function describeOnce(title: string, begin: () => Promise<{ store: PlugsetOptions['store']; end(): Promise<void> }>) {
  describe(`plugset once beside a daemon, ${title}`, () => {
    const ends: (() => Promise<void>)[] = [];
    afterEach(async () => {
      for (const end of ends.splice(0).toReversed()) await end();
    });

    it('waits for its lease, and makes its pass when that is given back', async () => {
      const { store, end } = await begin();
      ends.push(end);
      const plugset: Plugset = await startPlugset({ store, idle: true });
      ends.push(() => plugset.stop());
      const home = join(plugset.dirs.root, 'alice');
      const file = join(home, 'plugins/one/SKILL.md');
      await mkdir(home);
      await writePlugin(join(plugset.dirs.registry, 'one'), { 'SKILL.md': 'one\n' });
      await plugset.app.store.apply(alice(home), AbortSignal.timeout(60_000));
      const stop = new AbortController();
      const daemon = plugset.app.run(stop.signal);
      await plugset.untilReady('alice');

      const app: App = await openApp(plugset.config, new RecordingLogger());
      ends.push(() => app.close());
      const standsBy = deferred();
      const once = app.once(undefined, AbortSignal.timeout(60_000), { onStandby: standsBy.resolve });
      await standsBy.promise;
      await writeFile(file, 'edited');
      await plugset.requested('alice');
      expect(await readFile(file, 'utf8'), 'the daemon goes on').toBe('one\n');

      stop.abort(new Error('the daemon is stopped'));
      await daemon;
      expect(await once).toMatchObject([{ key: 'default/alice', error: undefined, status: { summary: '1/1' } }]);
    });
  });
}

function alice(path: string): WorkspaceManifest {
  const spec = { runtime: 'hermes', target: { directory: { path } }, plugins: [{ name: 'one', source: 'one' }] };
  return { apiVersion: 'plugset.dev/v1alpha1', kind: 'Workspace', metadata: { name: 'alice' }, spec };
}

function deferred(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => (resolve = settle));
  return { promise, resolve };
}

describeOnce('on files', async () => ({ store: { kind: 'files' }, end: async () => undefined }));

await withBackend('postgres', (serverUrl) => {
  describeOnce('on Postgres', async () => {
    const database = await freshDatabase(serverUrl);
    return { store: { kind: 'postgres', url: database.url }, end: () => database.drop() };
  });
});
