import { lstat, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import type { Config } from '../../src/config.ts';
import { API_VERSION, DEFAULT_POLICY } from '../../src/domain/workspace.ts';
import { withBackend } from '../support/backend.ts';
import { startDaemon, turnOf, type Daemon, type Fault } from '../support/daemon.ts';
import { eventually } from '../support/eventually.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { freePort } from '../support/free-port.ts';
import { Cluster } from '../support/kube/cluster.ts';
import { createNamespace, removeNamespace } from '../support/kube/namespace.ts';
import { installWorkspaceCrd, workspacesIn } from '../support/kube/workspace-crd.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';
import { contentOf, wholeTree } from '../support/whole-trees.ts';

/** So long that a daemon on a busy machine keeps it. */
const LEASE_MS = 15_000;
/** One that nobody loses while a test runs. */
const ENDLESS_MS = 600_000;
const MERGE_PATCH = 'application/merge-patch+json';

interface Seen {
  readonly status?: {
    readonly intentional?: number;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

await withBackend('kubernetes', (address) => {
  describe('on a cluster the daemon that leads is frozen in the middle of a converge, and revived', () => {
    let cluster: Cluster;
    let namespace: string;
    let home: string;
    let plugset: Plugset;
    let network: FaultProxy;
    let daemons: Daemon[];

    beforeEach(async () => {
      cluster = await Cluster.at(address);
      await installWorkspaceCrd(cluster);
      namespace = await createNamespace(cluster);
      network = await FaultProxy.open(cluster.server.replace('https:', 'tcp:'), 'tcp');
      // Only its directories and its configuration are used: the daemons are processes of their own.
      plugset = await startPlugset({ store: { kind: 'files' }, idle: true });
      daemons = [];
      home = join(plugset.dirs.root, 'alice');
      await mkdir(home);
      await publish('one');
      const plugins = ['a', 'b'].map((name) => ({ name, source: 'a' }));
      const spec = { runtime: 'claude-code', target: { directory: { path: home } }, plugins };
      await cluster.call('POST', workspacesIn(namespace), {
        body: { apiVersion: API_VERSION, kind: 'Workspace', metadata: { name: 'alice' }, spec },
      });
    });

    afterEach(async () => {
      for (const daemon of daemons) {
        daemon.signal('SIGKILL');
        await daemon.ended();
      }
      await plugset.stop();
      await network.close();
      await removeNamespace(cluster, namespace);
    });

    const publish = (content: string): Promise<void> =>
      writePlugin(join(plugset.dirs.registry, 'a'), wholeTree(content));
    const installed = (): Promise<readonly (string | undefined)[]> =>
      Promise.all(['a', 'b'].map((name) => contentOf(join(home, 'plugins', name))));
    const untilBoth = (content: string): Promise<void> =>
      eventually(async () => expect(await installed()).toEqual([content, content]));
    /** The trees stand before an apply has ended, and until then its lock alone would keep others out. */
    const untilTold = (intentional: number): Promise<void> =>
      eventually(async () => {
        expect((await statusOf())?.intentional).toBe(intentional);
        expect(await readyOf()).toBe('True');
      });
    const statusOf = async (): Promise<Seen['status']> =>
      (await cluster.call<Seen>('GET', `${workspacesIn(namespace)}/alice`)).status;
    const readyOf = async (): Promise<string | undefined> =>
      (await statusOf())?.conditions?.find(({ type }) => type === 'Ready')?.status;

    async function start(
      leaseMs: number,
      fault?: Fault,
      server = cluster.server,
    ): Promise<Daemon & { readonly port: number }> {
      const file = join(plugset.dirs.root, `kubeconfig-${daemons.length}`);
      await writeFile(file, cluster.kubeconfig('admin', namespace).replace(cluster.server, server));
      const port = await freePort();
      const config: Config = {
        ...plugset.config,
        store: { kind: 'kubernetes', origin: 'the test', namespaces: [namespace], stateNamespace: namespace },
        kubernetes: { kubeconfigs: [file] },
        policy: DEFAULT_POLICY,
        listen: { host: '127.0.0.1', port },
        leaseMs,
      };
      const daemon = await startDaemon(config, fault);
      daemons.push(daemon);
      return { ...daemon, port };
    }

    const saying = (message: string) => (line: { readonly message: string }) => line.message.startsWith(message);
    const ask = async (port: number, path: string): Promise<string> =>
      (await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: 'close' } })).text();

    it('has lost its lease meanwhile: it writes nothing more, stands by, and leads again when it is its turn', async () => {
      const first = await start(LEASE_MS, { phase: 'converge', nth: 2, signal: 'SIGSTOP' });
      await untilTold(2);
      const second = await start(LEASE_MS);
      await second.line(saying('standing by'));
      // Before it leads it knows already what it would work on.
      await eventually(async () =>
        expect(await ask(second.port, '/metrics')).toMatch(/^plugset_kube_objects\{[^}]*\} 1$/m),
      );
      await publish('two');
      // It is frozen when it is about to put this in place; nobody gives its lease back.
      await second.line(saying('leading'));
      await untilBoth('two');
      await publish('three');
      await untilBoth('three');
      await untilTold(6);
      expect(await fenceOn(home)).toContain(` ${turnOf(second)}`);
      const before = await filesIn(home);

      first.signal('SIGCONT');
      await first.line(saying('leadership was lost'));
      await first.line(saying('standing by'));
      expect(await ask(first.port, '/metrics')).toMatch(/^leader_election_master_status\{[^}]*\} 0$/m);
      expect(await ask(second.port, '/metrics')).toMatch(/^leader_election_master_status\{[^}]*\} 1$/m);
      expect(await filesIn(home)).toEqual(before);
      expect(second.lines.some(saying('leadership was lost'))).toBe(false);

      const turns = first.lines.filter(saying('leading')).length;
      second.signal('SIGTERM');
      await second.ended();
      await eventually(() => expect(first.lines.filter(saying('leading'))).not.toHaveLength(turns));
      await publish('four');
      await untilBoth('four');
    });

    it('has its change under way on the target: that ends or is given up, and nothing comes after what the next one did', async () => {
      const first = await start(LEASE_MS, { phase: 'converge', nth: 2, signal: 'SIGSTOP', afterMs: 20 });
      await untilTold(2);
      const second = await start(LEASE_MS);
      await second.line(saying('standing by'));
      await publish('two');
      await second.line(saying('leading'));
      await publish('three');
      // It may be kept out by the lock of what the first one began.
      await second.line(isConverge);
      first.signal('SIGCONT');
      await first.line(saying('leadership was lost'));
      await first.line(saying('standing by'));
      await untilBoth('three');
      await eventually(async () => expect(await readyOf()).toBe('True'));
      expect(await installed()).toEqual(['three', 'three']);
      expect(await fenceOn(home)).toContain(` ${turnOf(second)}`);
    });

    it('has no reason to doubt its lease: the target refuses it by the fence', async () => {
      const front = network.address.replace('tcp:', 'https:');
      const first = await start(ENDLESS_MS, { phase: 'converge', nth: 2, signal: 'SIGSTOP' }, front);
      await untilTold(2);
      await publish('two');
      await eventually(() => expect(first.lines.filter(isConverge)).toHaveLength(2));
      // When it wakes nobody tells it anything: only the target can stop it.
      network.blackHole();
      await cluster.call('PATCH', `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/plugset`, {
        contentType: MERGE_PATCH,
        body: { spec: { holderIdentity: '' } },
      });
      const second = await start(ENDLESS_MS);
      await untilBoth('two');
      await publish('three');
      await untilBoth('three');
      await untilTold(6);
      const before = await filesIn(home);

      first.signal('SIGCONT');
      await first.line(saying('the target refused a write'));
      expect(await filesIn(home)).toEqual(before);
      expect(await fenceOn(home)).toContain(` ${turnOf(second)}`);
      network.heal();
      await first.line(saying('leadership was lost'));
      await first.line(saying('standing by'));
      expect(await filesIn(home)).toEqual(before);
      await untilTold(6);
    });

    it('is not frozen but cut off: it stops, says so, and goes on by itself once the API server is there again', async () => {
      const only = await start(LEASE_MS, undefined, network.address.replace('tcp:', 'https:'));
      await untilTold(2);
      const turns = only.lines.filter(saying('leading')).length;
      network.blackHole();
      await only.line(saying('leadership was lost'));
      await publish('two');
      await eventually(async () => expect(await ask(only.port, '/readyz?verbose')).toContain('waiting for the store'));
      expect(await ask(only.port, '/metrics')).toMatch(/^leader_election_master_status\{[^}]*\} 0$/m);
      expect(await installed()).toEqual(['one', 'one']);
      network.heal();
      await eventually(() => expect(only.lines.filter(saying('leading'))).not.toHaveLength(turns));
      await untilTold(4);
      await untilBoth('two');
    });
  });
});

function isConverge(line: { readonly message: string; readonly phase?: unknown }): boolean {
  return line.message === 'phase' && line.phase === 'converge';
}

function fenceOn(home: string): Promise<string> {
  return readFile(join(home, '.plugset/fence'), 'utf8');
}

/** Every file, which is another one once somebody has written it anew; without the lock, which comes and goes with each apply. */
async function filesIn(home: string): Promise<Readonly<Record<string, string>>> {
  const entries = await readdir(home, { recursive: true });
  const files = await Promise.all(
    entries.toSorted().map(async (path) => [path, await lstat(join(home, path), { bigint: true })] as const),
  );
  return Object.fromEntries(
    files.filter(([, stat]) => stat.isFile()).map(([path, { ino, mtimeNs }]) => [path, `${ino} ${mtimeNs}`]),
  );
}
