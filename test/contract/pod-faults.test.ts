import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';

import { ScriptedPluginHost } from '../../src/plugins/plugin-host.ts';
import type { RunOptions, RunResult, WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { createNamespace, removeNamespace } from '../support/kube/namespace.ts';
import { KubeNode, nodeAt, type TestNode } from '../support/kube/node.ts';
import { CONFIG_DIR, PodHost } from '../support/kube/pod-host.ts';
import { memoryArtifact } from '../support/memory-artifact.ts';
import { Bench } from './plugin-host.ts';

const ROOT = { uid: 0, gid: 0 };

/** What happens to connections and nodes, beyond what every target must stand. */
await withBackend('node', async (address) => {
  const node = await nodeAt(address);
  let namespace: string;
  beforeAll(async () => {
    namespace = await createNamespace(node.cluster);
  });
  afterAll(() => removeNamespace(node.cluster, namespace));

  const boot = async (
    where: TestNode = node,
  ): Promise<{ readonly host: PodHost; readonly target: WorkspaceTarget }> => {
    const host = await PodHost.create(where, { namespace, image: 'debian', owner: ROOT });
    onTestFinished(() => host.close());
    return { host, target: await host.locate() };
  };
  const run = (
    target: WorkspaceTarget,
    argv: readonly string[],
    options: Partial<RunOptions> = {},
  ): Promise<RunResult> => {
    const { signal } = new AbortController();
    return target.run(argv, { as: 'observer', deadlineMs: 60_000, signal, ...options });
  };

  describe('the connection to a pod', () => {
    it('is cut in mid-transfer: nobody knows, and the next command has another one', async () => {
      const { host, target } = await boot();
      host.line.cutAfter(3_000_000);
      expect(await run(target, ['cat'], { stdin: zeros(20_000_000) })).toMatchObject({ kind: 'unknown' });
      expect(await run(target, ['true'])).toMatchObject({ code: 0 });
      // The watch, and nothing that was left behind.
      await eventually(() => expect(host.line.connections).toBeLessThanOrEqual(2));
    });

    it('is cut in the middle of an apply: nothing of it is there, and the next apply goes through', async () => {
      const { host, target } = await boot();
      const bench = new Bench({
        host: new ScriptedPluginHost(),
        target,
        configDir: CONFIG_DIR,
        owner: ROOT,
        shell: (script) => host.shell(`cd ${CONFIG_DIR}; ${script}`, ROOT),
        hide: () => Promise.reject(new Error('nothing is hidden here')),
        seal: () => Promise.reject(new Error('nothing is sealed here')),
        dispose: () => host.close(),
      });
      const big = memoryArtifact({ 'model.bin': 'x'.repeat(8_000_000) });
      host.line.cutAfter(3_000_000);
      await expect(bench.converge([bench.put('big', big)], [big])).rejects.toMatchObject({ class: 'unknown' });
      expect((await bench.look()).plugins).toEqual([]);
      const { observation } = await bench.converge([bench.put('big', big)], [big]);
      expect(observation.plugins).toMatchObject([{ name: 'big', differing: [] }]);
    });

    it('carries 100 MB to a command', async () => {
      const { target } = await boot();
      const result = await run(target, ['wc', '-c'], { stdin: zeros(100_000_000) });
      expect(result).toMatchObject({ kind: 'exited', code: 0 });
      expect(result.kind === 'exited' && result.stdout.toString().trim()).toBe('100000000');
    });
  });

  await withBackend('kubelet', (bin) => {
    it('a node that freezes under a command costs no more than its deadline, and serves again when it is back', async () => {
      const own = await KubeNode.start(node.cluster, bin);
      onTestFinished(() => own.stop());
      const { host, target } = await boot(own);
      const started = run(target, ['sh', '-c', 'echo >/configs/started; sleep 600'], { deadlineMs: 4_000 });
      await eventually(() => host.exec(['test', '-e', '/configs/started']));
      await own.freeze();
      expect(await started).toMatchObject({ kind: 'unknown' });
      await own.thaw();
      await eventually(async () => expect(await run(target, ['true'])).toMatchObject({ code: 0 }));
    });
  });
});

async function* zeros(bytes: number): AsyncGenerator<Buffer> {
  for (let sent = 0; sent < bytes; sent += 65_536) yield Buffer.alloc(Math.min(65_536, bytes - sent));
}
