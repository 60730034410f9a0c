import { access, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import type { AppOptions } from '../../src/app.ts';
import { REQUESTED_AT_ANNOTATION } from '../../src/domain/workspace.ts';
import { withBackend } from '../support/backend.ts';
import { startDaemon } from '../support/daemon.ts';
import { eventually } from '../support/eventually.ts';
import { proxiedNamespace, type ProxiedNamespace } from '../support/kube/proxied-namespace.ts';
import { LeapingClock } from '../support/leaping-clock.ts';
import { installWorkspaceCrd, workspacesIn } from '../support/kube/workspace-crd.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';
import { tempDir } from '../support/temp-dir.ts';

interface Resource {
  readonly metadata: { readonly generation: number; readonly resourceVersion: string; readonly finalizers?: string[] };
  readonly spec: Readonly<Record<string, unknown>>;
  readonly status: {
    readonly observedGeneration: number;
    readonly summary?: string;
    readonly conditions?: readonly Readonly<Record<'type' | 'status' | 'reason' | 'message', string>>[];
    readonly plugins?: readonly { readonly name: string; readonly state: string }[];
    readonly lastHandledReconcileAt?: string;
    readonly history?: readonly { readonly summary: string }[];
  };
}

await withBackend('kubernetes', (directory) => {
  describe('workspaces that are custom resources', () => {
    let place: ProxiedNamespace;
    let plugset: Plugset;
    let homes: string;
    const ends: (() => Promise<void>)[] = [];

    beforeEach(async () => {
      place = await proxiedNamespace(directory);
      await installWorkspaceCrd(place.cluster);
    });
    afterEach(async () => {
      for (const end of ends.splice(0).toReversed()) await end();
      await place.dispose();
    });

    /** `idle`: only its configuration is used. */
    async function start(idle = false, more: Partial<Plugset['config']> = {}, parts: AppOptions = {}): Promise<void> {
      const { cluster, namespace, network } = place;
      const kubeconfig = join(await tempDir(), 'kubeconfig');
      const direct = cluster.kubeconfig('admin', namespace);
      await writeFile(kubeconfig, direct.replace(cluster.server, network.address.replace('tcp:', 'https:')));
      plugset = await startPlugset({
        store: { kind: 'kubernetes', namespaces: [namespace], stateNamespace: namespace },
        config: { kubernetes: { kubeconfigs: [kubeconfig] }, probeIntervalMs: 200, deepIntervalMs: 1_000, ...more },
        parts,
        idle,
      });
      ends.push(() => plugset.stop());
      homes = plugset.dirs.root;
      await writePlugin(join(plugset.dirs.registry, 'one'), { 'SKILL.md': 'one\n' });
      await writePlugin(join(plugset.dirs.registry, 'two'), { 'SKILL.md': 'two\n' });
    }

    const pathOf = (name: string): string => `${workspacesIn(place.namespace)}/${name}`;
    const read = (name: string): Promise<Resource> => place.cluster.call<Resource>('GET', pathOf(name));
    const installed = async (name: string): Promise<readonly string[]> =>
      (await readdir(join(homes, name, 'plugins')).catch(() => [])).toSorted((a, b) => a.localeCompare(b));
    const wait = (name: string, condition = 'Ready', seconds = 30): Promise<string> =>
      place.cluster.kubectl([
        ...['wait', `pws/${name}`, '-n', place.namespace, `--for=condition=${condition}`, `--timeout=${seconds}s`],
      ]);

    async function declare(
      name: string,
      plugins: readonly string[],
      policy: object = {},
      target: object = { directory: { path: join(homes, name) } },
    ): Promise<Resource> {
      await mkdir(join(homes, name), { recursive: true });
      const manifest = {
        apiVersion: 'plugset.dev/v1alpha1',
        kind: 'Workspace',
        metadata: { name, namespace: place.namespace },
        spec: {
          runtime: 'hermes',
          target,
          plugins: plugins.map((plugin) => ({ name: plugin, source: plugin })),
          policy,
        },
      };
      await place.cluster.kubectl(['apply', '--server-side', '-f', '-'], JSON.stringify(manifest));
      return read(name);
    }

    it('converge in a daemon of its own process, and `kubectl wait` sees it', async () => {
      await start(true);
      const daemon = await startDaemon(plugset.config);
      ends.push(async () => {
        daemon.signal('SIGTERM');
        await daemon.ended();
      });
      for (const name of ['alice', 'bob', 'carol']) await declare(name, ['one', 'two']);
      await Promise.all(['alice', 'bob', 'carol'].map((name) => wait(name)));
      for (const name of ['alice', 'bob', 'carol']) expect(await installed(name)).toEqual(['one', 'two']);
      const table = await place.cluster.kubectl(['get', 'pws', '-n', place.namespace]);
      expect(table.split('\n')[0]?.split(/\s{2,}/)).toEqual([
        'NAME',
        'READY',
        'REASON',
        'PLUGINS',
        'DRIFT',
        'TARGET',
        'AGE',
      ]);
      expect(table).toMatch(/^alice +True +Succeeded +2\/2 .*alice/m);
    });

    it('are edited, and the next pass has the new generation; no report runs ahead', async () => {
      await start();
      await declare('alice', ['one']);
      await wait('alice');
      for (const plugins of [['one', 'two'], ['two'], ['one']]) {
        const { metadata } = await declare('alice', plugins);
        const now = await eventually(async () => {
          const seen = await read('alice');
          expect(seen.status.observedGeneration).toBeLessThanOrEqual(seen.metadata.generation);
          expect(seen.status.observedGeneration).toBe(metadata.generation);
          return seen;
        });
        expect(now.status.plugins?.map(({ name }) => name) ?? []).toEqual(plugins);
        expect(await installed('alice')).toEqual(plugins);
      }
    });

    it('emptied by server-side apply lose the last plugin with the next one, and with a lost list none', async () => {
      await start();
      const told = (name: string): Promise<string> =>
        eventually(async () => {
          const { metadata, status } = await read(name);
          const ready = status.conditions?.find(({ type }) => type === 'Ready');
          expect(status.observedGeneration).toBe(metadata.generation);
          return `${ready?.reason}: ${ready?.message}`;
        });
      const lost = /^InvalidSpec: .*spec\.plugins: is missing, .* apply \[\] once more/;
      for (const name of ['alice', 'bob']) await declare(name, ['one']);
      for (const name of ['alice', 'bob']) await wait(name);

      // What the API server makes of it; Flux applies what its dry run would still change.
      expect((await declare('alice', [])).spec).not.toHaveProperty('plugins');
      expect(await told('alice')).toMatch(lost);
      expect(await installed('alice')).toEqual(['one']);
      expect((await declare('alice', [])).spec).toHaveProperty('plugins', []);
      await wait('alice');
      expect(await installed('alice')).toEqual([]);
      const { metadata } = await read('alice');
      expect((await declare('alice', [])).metadata.generation).toBe(metadata.generation);

      const removal = JSON.stringify([{ op: 'remove', path: '/spec/plugins' }]);
      await place.cluster.kubectl(['patch', 'pws/bob', '-n', place.namespace, '--type=json', '-p', removal]);
      expect(await told('bob')).toMatch(lost);
      await passes(3);
      expect(await installed('bob')).toEqual(['one']);
      await place.cluster.kubectl(['delete', 'pws/bob', '-n', place.namespace, '--timeout=30s']);
      expect(await installed('bob')).toEqual([]);
    });

    it('edited while they converge, have that pass end and the next one begin at once', async () => {
      const bin = await tempDir();
      const [reached, gate] = [join(bin, 'reached'), join(bin, 'gate')];
      await writeFile(gate, '');
      const held = `#!/bin/sh\n: >'${reached}'\nwhile [ -e '${gate}' ]; do sleep 0.05; done\nexec /bin/tar "$@"\n`;
      await writeFile(join(bin, 'tar'), held, { mode: 0o755 });
      // No clock wakes it.
      const path = `${bin}:${process.env['PATH'] ?? ''}`;
      await start(false, { path, probeIntervalMs: 600_000, deepIntervalMs: 600_000 });
      await declare('alice', ['one']);
      await eventually(() => access(reached));
      await declare('alice', ['two']);
      expect(await read('alice')).toMatchObject({ metadata: { generation: 2 }, status: { observedGeneration: -1 } });
      await rm(gate);
      const { status } = await eventually(async () => {
        const now = await read('alice');
        const what = await installed('alice');
        if (now.status.observedGeneration === 2) expect(what).toEqual(['two']);
        expect(now.status).toMatchObject({ observedGeneration: 2, summary: '1/1' });
        return now;
      });
      expect(status.history?.map(({ summary }) => summary)).toEqual([
        expect.stringMatching(/^removed one .*installed two /),
        expect.stringMatching(/^installed one /),
      ]);
    });

    it('answer who asked for a pass', async () => {
      await start();
      await declare('alice', ['one']);
      await wait('alice');
      await place.cluster.kubectl([
        ...['annotate', 'pws/alice', '-n', place.namespace, `${REQUESTED_AT_ANNOTATION}=by-hand`],
      ]);
      await eventually(async () => expect((await read('alice')).status.lastHandledReconcileAt).toBe('by-hand'));
      expect((await read('alice')).metadata.generation).toBe(1);
    });

    it('take back once what somebody else has written over a report, and leave him what is his', async () => {
      await start();
      await declare('alice', ['one']);
      await wait('alice');
      const at = new Date(0).toISOString();
      const theirs = { type: 'Healthy', status: 'True', reason: 'TheySay', message: '', observedGeneration: 1 };
      await place.cluster.call('PATCH', `${pathOf('alice')}/status?fieldManager=somebody&force=true`, {
        contentType: 'application/apply-patch+yaml',
        body: {
          apiVersion: 'plugset.dev/v1alpha1',
          kind: 'Workspace',
          metadata: { name: 'alice', namespace: place.namespace },
          status: { summary: '99/99', conditions: [{ ...theirs, lastTransitionTime: at }] },
        },
      });
      const corrected = await eventually(async () => {
        const now = await read('alice');
        expect(now.status.summary).toBe('1/1');
        return now;
      });
      const types = corrected.status.conditions?.map(({ type }) => type);
      expect(types).toEqual(expect.arrayContaining(['Ready', 'Reachable', 'Healthy']));
      await passes(3);
      expect((await read('alice')).metadata.resourceVersion).toBe(corrected.metadata.resourceVersion);
    });

    it('that are as declared cost the API server nothing', async () => {
      await start();
      await declare('alice', ['one']);
      await wait('alice');
      await passes(2);
      const before = (await asked()).length;
      await passes(5);
      expect((await asked()).slice(before)).toEqual([]);
    });

    it('are listed once by a controller that leads as soon as it is started', async () => {
      await start();
      await declare('alice', ['one']);
      await wait('alice');
      const lists = (await asked()).filter(
        (request) => request.startsWith('list ') && request.includes('/workspaces?'),
      );
      // The first only asks whether it may.
      expect(lists.map((request) => /(?<=limit=)\d+/.exec(request)?.[0])).toEqual(['1', '500']);
    });

    it('of which nothing is heard, nor of their pods, nor tried to hear, have the process started again by whoever asks for its life', async () => {
      const clock = new LeapingClock();
      await start(false, {}, { clock });
      await declare('alice', ['one']);
      await wait('alice');
      await declare('bob', [], {}, { pod: {} });
      await wait('bob', 'Ready=false');
      const alive = async (): Promise<string> => {
        const answer = await fetch(`${await plugset.metricsUrl()}/livez?verbose`);
        return `${answer.status} ${await answer.text()}`;
      };
      expect(await alive()).toMatch(/^200 [^]*\[\+\]store ok\n\[\+\]targets ok\n/);
      // From here on no word of it can come; and its timers, which would try, know nothing of the leap.
      place.network.blackHole();
      clock.leap(400_000);
      const hangs = (what: string): string => `the watch of ${what} hangs: nothing was heard or tried for 4\\d\\d s\n`;
      expect(await alive()).toMatch(
        new RegExp(`^500 [^]*\\[-\\]store failed: ${hangs('workspaces')}\\[-\\]targets failed: ${hangs('pods')}`),
      );
      place.network.heal();
    });

    it('are cleaned up before they are gone', async () => {
      await start();
      await declare('alice', ['one']);
      await wait('alice');
      expect((await read('alice')).metadata.finalizers).toEqual(['plugset.dev/cleanup']);
      await place.cluster.kubectl(['delete', 'pws/alice', '-n', place.namespace, '--timeout=30s']);
      expect(await installed('alice')).toEqual([]);
      await declare('bob', ['one'], { deletion: 'Orphan' });
      await wait('bob');
      expect((await read('bob')).metadata.finalizers).toBeUndefined();
      await place.cluster.kubectl(['delete', 'pws/bob', '-n', place.namespace, '--timeout=30s']);
      expect(await installed('bob')).toEqual(['one']);
    });

    /** Waits until so many passes more have looked. */
    async function passes(count: number): Promise<void> {
      const looked = async (): Promise<number> => {
        const text = await (await fetch(`${await plugset.metricsUrl()}/metrics`)).text();
        const line = /^controller_runtime_reconcile_total\{[^}]*result="requeue_after"[^}]*\} (\d+)/m.exec(text);
        return Number(line?.[1] ?? 0);
      };
      const before = await looked();
      await eventually(async () => expect(await looked()).toBeGreaterThanOrEqual(before + count));
    }

    /** What the daemon has asked of its namespace, renewals of its Lease left out. */
    async function asked(): Promise<readonly string[]> {
      const events = await place.cluster.auditEvents();
      return events
        .filter(({ objectRef, verb }) => {
          const isHere = objectRef?.namespace === place.namespace;
          return isHere && objectRef.resource !== 'leases' && verb !== 'watch';
        })
        .map(({ verb, requestURI }) => `${verb} ${requestURI}`);
    }
  });
});
