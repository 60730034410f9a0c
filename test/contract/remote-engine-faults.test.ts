import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { connect, createServer } from 'node:net';
import { readFile, writeFile } from 'node:fs/promises';

import { afterAll, describe, expect, it, onTestFinished } from 'vitest';

import { DockerTargetProvider } from '../../src/adapters/docker/docker-target-provider.ts';
import { endpointOf } from '../../src/adapters/ssh/endpoint-of.ts';
import { engineDialer } from '../../src/adapters/ssh/engine-dialer.ts';
import { PooledSshHosts } from '../../src/adapters/ssh/pooled-ssh-hosts.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import type { AllowedHosts } from '../../src/domain/access.ts';
import { ScriptedPluginHost } from '../../src/plugins/plugin-host.ts';
import type { StreamDialer } from '../../src/ports/stream-dialer.ts';
import type { WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import { withBackend } from '../support/backend.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { eventually } from '../support/eventually.ts';
import { MemoryControllerState } from '../support/memory-state.ts';
import { memoryArtifact } from '../support/memory-artifact.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { RemoteEngines } from '../support/remote-engines.ts';
import { sshdAt } from '../support/sshd.ts';
import { SshMachine } from '../support/machine/ssh-machine.ts';
import { workspaceAt } from '../support/workspaces.ts';
import { Bench } from './plugin-host.ts';

const SIGNAL = new AbortController().signal;
// One signal for 20 runs at once is no leak.
setMaxListeners(0, SIGNAL);
const OWNER = { uid: 1000, gid: 1000 };

/** What happens on the way to an engine, beyond what every target must stand. */
await withBackend('docker', async (address) => {
  await withBackend('sshd', (sshd) => {
    const containers = new TestContainers(address);
    afterAll(() => containers.removeAll());

    async function reached(changes: Partial<AllowedHosts> = {}, unix = address) {
      const remote = await RemoteEngines.open(sshd);
      onTestFinished(() => remote.close());
      const provider = new DockerTargetProvider({
        engines: [{ name: 'default', ...remote.reach(unix, changes) }],
        clock: new SystemClock(),
        logger: new RecordingLogger(),
      });
      onTestFinished(() => provider.close());
      const id = `t${randomBytes(8).toString('hex')}`;
      const container = await containers.create({ image: 'debian', labels: { 'plugset.dev/workspace': id } });
      await containers.exec(container, ['chown', `${OWNER.uid}:${OWNER.gid}`, '/configs']);
      return {
        line: remote.line,
        container,
        locate: (): Promise<WorkspaceTarget> => provider.locate(workspaceAt({ docker: {} }, { id }), SIGNAL),
      };
    }

    describe('an engine on another machine', () => {
      it('is asked over one connection, however many commands there are', async () => {
        const { line, locate } = await reached();
        const target = await locate();
        const codes = Array.from({ length: 20 }, (_, index) => index);
        const results = await Promise.all(codes.map((code) => run(target, ['sh', '-c', `sleep 0.1; exit ${code}`])));
        expect(results.map((result) => result.kind === 'exited' && result.code)).toEqual(codes);
        expect(line.accepted).toBe(1);
      });

      it('is cut off in mid-transfer: nobody knows, and the next command has another connection', async () => {
        const { line, locate } = await reached();
        const target = await locate();
        line.cutAfter(3_000_000);
        expect(await run(target, ['cat'], { stdin: zeros(20_000_000) })).toMatchObject({ kind: 'unknown' });
        expect(await run(target, ['true'])).toMatchObject({ code: 0 });
        expect(line.connections).toBe(1);
      });

      it('is cut off in the middle of an apply: nothing of it is there, and the next apply goes through', async () => {
        const { line, locate, container } = await reached();
        const bench = new Bench({
          host: new ScriptedPluginHost(),
          target: await locate(),
          configDir: '/configs',
          owner: OWNER,
          shell: (script) => containers.exec(container, ['sh', '-c', `cd /configs; ${script}`]),
          hide: async () => undefined,
          seal: async () => undefined,
          dispose: async () => undefined,
        });
        const plugin = memoryArtifact({ 'large.bin': randomBytes(4_000_000).toString('hex'), 'SKILL.md': 'one\n' });
        line.cutAfter(1_000_000);
        expect(await bench.refusal(bench.converge([bench.put('one', plugin)], [plugin]))).toMatchObject({
          class: 'unknown',
          reason: 'OutcomeUnknown',
        });
        expect(await bench.lookAt('one')).toBeUndefined();
        await bench.converge([bench.put('one', plugin)], [plugin]);
        expect(await bench.lookAt('one')).toMatchObject({ present: true });
      });

      it('has a host whose key is not the one that is known, or whose user has no key: each says so', async () => {
        const { strangerKeyFile, knownHostsFile } = await sshdAt(sshd);
        const { locate, line } = await reached({ keyFile: strangerKeyFile });
        await expect(locate()).rejects.toMatchObject({ class: 'terminal', reason: 'AuthenticationFailed' });
        await eventually(() => expect(line.connections).toBe(0));
        const other = await reached({ knownHostsFile: await anotherKey(knownHostsFile, strangerKeyFile) });
        await expect(other.locate()).rejects.toMatchObject({ class: 'terminal', reason: 'HostKeyMismatch' });
      });

      it('does not listen where it is said to: it is out of reach', async () => {
        const { locate } = await reached({}, 'unix:///nowhere/docker.sock');
        await expect(locate()).rejects.toMatchObject({
          class: 'transient',
          reason: 'Unreachable',
          message: expect.stringContaining('/nowhere/docker.sock') as string,
        });
      });

      it('has a host that is for no engine: terminal, and said without asking anybody', async () => {
        const { locate, line } = await reached({ hosts: ['10.0.0.*'] });
        await expect(locate()).rejects.toMatchObject({ class: 'terminal', reason: 'TargetNotAllowed' });
        expect(line.accepted).toBe(0);
      });
    });
  });
});

await withBackend('machine', () => {
  describe('a socket of a host', () => {
    it('takes streams beside its sessions: MaxSessions does not count them', async () => {
      const { dialer, opened } = await greeter(['MaxSessions 1']);
      const streams = await Promise.all(Array.from({ length: 40 }, () => dialer.dial(SIGNAL)));
      await eventually(() => expect(opened()).toBe(40));
      for (const stream of streams) stream.destroy();
    });

    it('has no more streams at once than are good for the host; the next ones wait for a turn', async () => {
      const { dialer } = await greeter([]);
      const streams = await Promise.all(Array.from({ length: 64 }, () => dialer.dial(SIGNAL)));
      const next = dialer.dial(SIGNAL);
      const stop = new AbortController();
      const impatient = dialer.dial(stop.signal);
      stop.abort(new Error('enough'));
      await expect(impatient).rejects.toMatchObject({ class: 'aborted' });
      streams[0]?.destroy();
      (await next).destroy();
    });

    it('is not forwarded to where the host forbids it, and what it takes is said', async () => {
      for (const line of ['AllowStreamLocalForwarding no', 'DisableForwarding yes']) {
        const { dialer } = await greeter([line]);
        await expect(dialer.dial(SIGNAL)).rejects.toMatchObject({
          reason: 'Unreachable',
          message: expect.stringContaining('AllowStreamLocalForwarding') as string,
        });
      }
    });
  });

  /** A machine on which something answers at a socket. */
  async function greeter(
    sshdConfig: readonly string[],
  ): Promise<{ readonly dialer: StreamDialer; readonly opened: () => number }> {
    const machine = await SshMachine.boot({ sshdConfig });
    onTestFinished(() => machine.close());
    let opened = 0;
    const server = createServer((socket) => {
      opened += 1;
      socket.on('error', () => undefined).end('hello');
    });
    server.listen(`${machine.machine.root}/tmp/socket`);
    onTestFinished(() => void server.close());
    await machine.machine.shell('until test -S /tmp/socket; do sleep 0.1; done; chmod 777 /tmp/socket');
    const state = new MemoryControllerState();
    const hosts = new PooledSshHosts({ state: () => state, clock: new SystemClock() });
    onTestFinished(() => hosts.close());
    const { clientKeyFile: keyFile, knownHostsFile } = machine;
    const entry = { hosts: ['*'], keyFile, knownHostsFile, firstContact: 'strict' } as const;
    const endpoint = endpointOf({ host: '127.0.0.1', port: machine.port, user: 'ubuntu' }, entry);
    const dialer = hosts.socketDialer(endpoint, '/tmp/socket');
    return { dialer, opened: () => opened };
  }
});

await withBackend('docker', (address) =>
  withBackend('machine', () => {
    const containers = new TestContainers(address);
    afterAll(() => containers.removeAll());

    describe('an engine on a host that forwards to no socket', () => {
      it('is reached by what the docker command runs there', async () => {
        const { locate } = await commandOnly();
        const target = await locate();
        const codes = Array.from({ length: 20 }, (_, index) => index);
        const results = await Promise.all(codes.map((code) => run(target, ['sh', '-c', `sleep 0.1; exit ${code}`])));
        expect(results.map((result) => result.kind === 'exited' && result.code)).toEqual(codes);
        const echoed = await run(target, ['cat'], { stdin: zeros(5_000_000) });
        expect(echoed.kind === 'exited' && echoed.stdout.length).toBe(5_000_000);
      });

      it('is reached though its connections have room for two commands, and its events take one for good', async () => {
        const { locate, watch } = await commandOnly(['MaxSessions 2']);
        watch();
        const target = await locate();
        for (const round of [1, 2, 3]) {
          const codes = Array.from({ length: 4 }, (_, index) => round * 10 + index);
          const results = await Promise.all(codes.map((code) => run(target, ['sh', '-c', `sleep 0.1; exit ${code}`])));
          expect(results.map((result) => result.kind === 'exited' && result.code)).toEqual(codes);
        }
      });

      it('is out of reach without that command, and when nobody answers it: what it says is quoted', async () => {
        const { locate, machine, engine } = await commandOnly();
        engine.close();
        await expect(locate()).rejects.toMatchObject({
          class: 'transient',
          reason: 'Unreachable',
          message: expect.stringMatching(
            /AllowStreamLocalForwarding.*`docker system dial-stdio` reaches nothing there either \(exit code 1: .*docker\.sock/,
          ),
        });
        await machine.machine.shell('rm -f /usr/bin/docker /usr/local/bin/docker');
        await expect(locate()).rejects.toMatchObject({
          reason: 'Unreachable',
          message: expect.stringMatching(/\(exit code 127: .*docker/),
        });
      });
    });

    /** A machine whose only way to an engine is a command. `engine` is what answers at the usual socket there. */
    async function commandOnly(sshdConfig: readonly string[] = []) {
      const machine = await SshMachine.boot({ sshdConfig: ['AllowStreamLocalForwarding no', ...sshdConfig] });
      onTestFinished(() => machine.close());
      // Who sends no more may still be told something: stdin of a command ends before its output.
      const engine = createServer({ allowHalfOpen: true }, (socket) => {
        const onward = connect({ path: new URL(address).pathname, allowHalfOpen: true });
        socket.on('error', () => onward.destroy());
        onward.on('error', () => socket.destroy());
        socket.pipe(onward).pipe(socket);
      });
      engine.listen(`${machine.machine.root}/run/docker.sock`);
      onTestFinished(() => void engine.close());
      await machine.machine.shell('until test -S /run/docker.sock; do sleep 0.1; done; chmod 777 /run/docker.sock');
      await machine.machine.shell('ln -s /run /var/run');
      const state = new MemoryControllerState();
      const hosts = new PooledSshHosts({ state: () => state, clock: new SystemClock() });
      onTestFinished(() => hosts.close());
      const { clientKeyFile: keyFile, knownHostsFile } = machine;
      const entry = { hosts: ['*'], keyFile, knownHostsFile, firstContact: 'strict' } as const;
      const there = `ssh://ubuntu@127.0.0.1:${machine.port}`;
      const provider = new DockerTargetProvider({
        engines: [{ name: 'default', address: there, dialer: engineDialer(there, [entry], hosts) }],
        clock: new SystemClock(),
        logger: new RecordingLogger(),
      });
      onTestFinished(() => provider.close());
      const id = `t${randomBytes(8).toString('hex')}`;
      await containers.create({ image: 'debian', labels: { 'plugset.dev/workspace': id } });
      return {
        machine,
        engine,
        watch: () =>
          provider.watch(
            () => undefined,
            () => undefined,
            SIGNAL,
          ),
        locate: (): Promise<WorkspaceTarget> => provider.locate(workspaceAt({ docker: {} }, { id }), SIGNAL),
      };
    }
  }),
);

/** A file that has another key under the names of `knownHostsFile`, and under any other. */
async function anotherKey(knownHostsFile: string, strangerKeyFile: string): Promise<string> {
  const file = `${knownHostsFile}.other`;
  await writeFile(file, `* ${await readFile(`${strangerKeyFile}.pub`, 'utf8')}`);
  return file;
}

function run(
  target: WorkspaceTarget,
  argv: readonly string[],
  options: Partial<Parameters<WorkspaceTarget['run']>[1]> = {},
): ReturnType<WorkspaceTarget['run']> {
  return target.run(argv, { as: 'observer', deadlineMs: 30_000, signal: SIGNAL, ...options });
}

async function* zeros(bytes: number): AsyncGenerator<Buffer> {
  for (let left = bytes; left > 0; left -= 65_536) yield Buffer.alloc(Math.min(left, 65_536));
}
