import { readFile } from 'node:fs/promises';
import { Socket } from 'node:net';

import { describe, expect, it, onTestFinished } from 'vitest';

import { PooledSshHosts } from '../../src/adapters/ssh/pooled-ssh-hosts.ts';
import { TcpDialer } from '../../src/adapters/ssh/tcp-dialer.ts';
import type { SshEndpoint } from '../../src/ports/ssh-endpoint.ts';
import type { WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { MemoryControllerState } from '../support/memory-state.ts';
import { SshHost } from '../support/ssh-host.ts';

const SIGNAL = new AbortController().signal;

/** How long connections live. They are real; the time that they live by is not always. */
await withBackend('machine', () => {
  describe('pooled connections', () => {
    it('are closed when nobody has used them for a while', async () => {
      const { host, target, clock } = await pooled({});
      await run(target);
      expect(host.line.connections).toBe(1);
      await clock.advance(89_000);
      expect(host.line.connections).toBe(1);
      await clock.advance(1_000);
      await eventually(() => expect(host.line.connections).toBe(0));
      await run(target);
      expect(host.line.accepted).toBe(2);
    });

    it('take no new command when they are old, and end when the last one has', async () => {
      const { host, target, clock } = await pooled({ maxAgeMs: 60_000 });
      const running = run(target, ['sh', '-c', 'echo >/tmp/started; while ! [ -e /tmp/go ]; do sleep 0.05; done']);
      await eventually(() => host.machine.machine.exec(['test', '-e', '/tmp/started']));
      await clock.advance(61_000);
      await run(target);
      expect(host.line.connections).toBe(2);
      await host.machine.machine.exec(['touch', '/tmp/go']);
      expect(await running).toBe(0);
      await eventually(() => expect(host.line.connections).toBe(1));
    });

    it('are let go of though the other side says nothing any more', async () => {
      const { host, target, hosts } = await pooled({});
      await run(target);
      await host.machine.machine.freeze();
      hosts.release('test');
      await eventually(() => expect(openTo(host.port)).toBe(0));
      await host.machine.machine.thaw();
    });

    it('are given up on request, as soon as nothing runs on them', async () => {
      const { host, target, hosts } = await pooled({});
      await run(target);
      hosts.release('test');
      await eventually(() => expect(host.line.connections).toBe(0));
      await run(target);
    });

    it('are closed with all others when they take no new command any more', async () => {
      const { host, target, hosts } = await pooled({});
      // It would be killed on another connection, for which there is no time: nobody moves the clock.
      void run(target, ['sleep', '3600']);
      await eventually(() => host.machine.machine.exec(['pgrep', '-x', 'sleep']));
      hosts.release('test');
      expect(host.line.connections).toBe(1);
      await hosts.close();
      await eventually(() => expect(host.line.connections).toBe(0));
    });

    it('are closed when whoever waited for them goes while their key is pinned', async () => {
      const state = new MemoryControllerState();
      const { host, endpoint, hosts } = await unmet({}, state);
      const stop = new AbortController();
      const pin = state.compareAndSwap.bind(state);
      state.compareAndSwap = async (...args) => {
        const version = await pin(...args);
        stop.abort(new Error('lease lost'));
        return version;
      };
      await expect(hosts.locate(endpoint, undefined, stop.signal)).rejects.toMatchObject({ class: 'aborted' });
      expect(host.line.accepted).toBe(1);
      await eventually(() => expect(host.line.connections).toBe(0));
    });

    it('are not waited for by whoever has gone', async () => {
      const { host, target } = await pooled({});
      host.line.blackHole();
      host.line.cut();
      const stop = new AbortController();
      const waiting = target.run(['true'], { as: 'observer', deadlineMs: 30_000, signal: stop.signal });
      await eventually(() => expect(host.line.connections).toBe(1));
      stop.abort(new Error('lease lost'));
      await expect(waiting).rejects.toMatchObject({ class: 'aborted' });
      await eventually(() => expect(host.line.connections).toBe(0));
    });
  });
});

interface Unmet {
  readonly host: SshHost;
  readonly hosts: PooledSshHosts;
  readonly endpoint: SshEndpoint;
  readonly clock: FakeClock;
}

async function pooled(limits: Partial<SshEndpoint>): Promise<Unmet & { readonly target: WorkspaceTarget }> {
  const parts = await unmet(limits);
  return { ...parts, target: await parts.hosts.locate(parts.endpoint, undefined, SIGNAL) };
}

async function unmet(limits: Partial<SshEndpoint>, state = new MemoryControllerState()): Promise<Unmet> {
  const host = await SshHost.boot();
  const clock = new FakeClock();
  const hosts = new PooledSshHosts({ state: () => state, clock });
  onTestFinished(async () => {
    await hosts.close();
    await host.close();
  });
  const privateKey = await readFile(host.machine.clientKeyFile, 'utf8');
  const endpoint: SshEndpoint = {
    id: 'test',
    description: 'the host of the test',
    user: 'ubuntu',
    dialer: new TcpDialer('127.0.0.1', host.port),
    credential: async () => ({ kind: 'key', origin: 'the test', privateKey }),
    hostKeys: {
      name: 'test',
      policy: 'tofu',
      voucher: 'nobody',
      ask: 'whenUnpinned',
      vouchedFor: async () => [],
      firstContact: 'tofu',
    },
    ...limits,
  };
  return { host, hosts, endpoint, clock };
}

/** Sockets of this process that lead to a port of this machine and are still held. */
function openTo(port: number): number {
  const handles = (process as unknown as { _getActiveHandles(): readonly unknown[] })._getActiveHandles();
  return handles.filter((handle) => handle instanceof Socket && handle.remotePort === port).length;
}

async function run(target: WorkspaceTarget, argv: readonly string[] = ['true']): Promise<number | undefined> {
  const result = await target.run(argv, { as: 'observer', deadlineMs: 3_600_000, signal: SIGNAL });
  return result.kind === 'exited' ? result.code : undefined;
}
