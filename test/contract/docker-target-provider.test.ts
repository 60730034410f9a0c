import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';

import { afterAll, afterEach, describe, expect, onTestFinished, test } from 'vitest';

import { DockerTargetProvider, type ReachedEngine } from '../../src/adapters/docker/docker-target-provider.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { DEFAULT_CONTAINER_RULES, type ContainerRulesOptions } from '../../src/domain/access.ts';
import type { Workspace } from '../../src/domain/workspace.ts';
import type { WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import { withBackend } from '../support/backend.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { eventually } from '../support/eventually.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { RemoteEngines } from '../support/remote-engines.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { workspaceAt } from '../support/workspaces.ts';

const LABEL = 'plugset.dev/workspace';
const signal = new AbortController().signal;
// One signal for twenty calls at once is no leak.
setMaxListeners(0, signal);

interface Limits {
  readonly rules?: Partial<ContainerRulesOptions>;
  readonly requestTimeoutMs?: number;
  readonly inactivityMs?: number;
}

/** How the engine at an address is reached. */
type Reach = (address: string) => Pick<ReachedEngine, 'address' | 'dialer'>;

function providerOf(
  engines: Readonly<Record<string, string>>,
  { rules, ...limits }: Limits = {},
  reach: Reach = (address) => ({ address }),
): DockerTargetProvider {
  const provider = new DockerTargetProvider({
    engines: Object.entries(engines).map(([name, address]) => ({ name, ...reach(address) })),
    clock: new SystemClock(),
    logger: new RecordingLogger(),
    rules: { ...DEFAULT_CONTAINER_RULES, ...rules },
    ...limits,
  });
  onTestFinished(() => provider.close());
  return provider;
}

/** Ids and names differ in every test: they share an engine, with each other and perhaps with somebody. */
function unique(): string {
  return `t${randomBytes(8).toString('hex')}`;
}

function workspaceOf(id: string, docker: { readonly container?: string; readonly engine?: string } = {}): Workspace {
  return workspaceAt({ docker }, { name: id, id });
}

describe('DockerTargetProvider, without an engine', () => {
  test('knows a container by its label and by the name rule', () => {
    const provider = providerOf({});
    const workspace = workspaceAt({ docker: {} }, { name: 'alice', id: '4c1e0b6a-aaaa-bbbb' });
    expect(provider.addresses(workspace)).toEqual([
      'docker:default:label:team-a/alice',
      'docker:default:label:4c1e0b6a-aaaa-bbbb',
      'docker:default:name:ws-4c1e0b6a-aaa',
    ]);
    expect(provider.addresses(workspaceOf('alice', { container: 'box', engine: 'two' }))).toEqual([
      'docker:two:name:box',
    ]);
    expect(provider.lane(workspaceOf('alice', { engine: 'two' }))).toBe('docker:two');
  });

  test('refuses an engine that is for other namespaces, before it is asked anything', async () => {
    const provider = new DockerTargetProvider({
      engines: [{ name: 'default', address: 'unix:///nowhere', namespaces: ['team-b'] }],
      clock: new SystemClock(),
      logger: new RecordingLogger(),
    });
    await expect(provider.locate(workspaceOf('alice'), signal)).rejects.toMatchObject({
      class: 'terminal',
      reason: 'TargetNotAllowed',
    });
    await provider.close();
  });

  test('refuses a container that the operator has not allowed the namespace, before the engine is asked anything', async () => {
    const provider = new DockerTargetProvider({
      engines: [
        { name: 'default', address: 'unix:///nowhere', containers: ['ws-a-*'] },
        { name: 'default', address: 'unix:///nowhere', namespaces: ['team-b'], containers: ['*'] },
      ],
      clock: new SystemClock(),
      logger: new RecordingLogger(),
    });
    for (const container of ['db', 'my-ws-a-1', 'ws-b-1']) {
      await expect(provider.locate(workspaceOf('alice', { container }), signal)).rejects.toMatchObject({
        class: 'terminal',
        reason: 'TargetNotAllowed',
        message: expect.stringContaining('targets.docker.engines, containers') as string,
      });
    }
    await expect(provider.locate(workspaceOf('alice', { container: 'ws-a-1' }), signal)).rejects.toMatchObject({
      reason: 'Unreachable',
    });
    await provider.close();
  });

  test('I-12: refuses an engine that is not configured, and names those that are', async () => {
    const provider = providerOf({ default: 'unix:///nowhere', two: 'tcp://127.0.0.1:1' });
    await expect(provider.locate(workspaceOf('alice', { engine: 'three' }), signal)).rejects.toMatchObject({
      class: 'terminal',
      reason: 'InvalidSpec',
      message: expect.stringContaining('known: default, two') as string,
    });
  });

  test('refuses an address that is none, before anything is asked', () => {
    for (const address of ['', 'http://x:1', 'tcp://host', 'unix://', 'ssh://host', '/var/run/docker.sock']) {
      expect(() => providerOf({ default: address })).toThrow(/neither unix:\/\/\/path/);
    }
  });

  test('could not look at an engine that is not there', async () => {
    for (const address of [
      'unix:///nowhere/docker.sock',
      'tcp://127.0.0.1:1',
      'tcp://[::1]:1',
      'tcp://no-such-host.invalid:2375',
    ]) {
      await expect(providerOf({ default: address }).locate(workspaceOf('alice'), signal)).rejects.toMatchObject({
        class: 'transient',
        reason: 'Unreachable',
      });
    }
  });
});

await withBackend('docker', async (address) => {
  describeProvider('', address);
  await withBackend('sshd', async (sshd) => {
    const remote = await RemoteEngines.open(sshd);
    afterAll(() => remote.close());
    describeProvider(', over SSH', address, (unix) => remote.reach(unix));
  });
});

function describeProvider(how: string, address: string, reach?: Reach): void {
  const reachedBy = (engines: Readonly<Record<string, string>>, limits?: Limits) => providerOf(engines, limits, reach);

  describe(`DockerTargetProvider${how}`, () => {
    const containers = new TestContainers(address);
    afterEach(() => containers.removeAll());

    type Rules = Partial<ContainerRulesOptions>;

    async function located(workspace: Workspace, rules: Rules = {}): Promise<WorkspaceTarget> {
      return reachedBy({ default: address }, { rules }).locate(workspace, signal);
    }

    async function refusal(workspace: Workspace, rules: Rules = {}): Promise<unknown> {
      return located(workspace, rules).catch((error: unknown) => error);
    }

    test('finds a container by either value of its label', async () => {
      const id = unique();
      for (const value of [id, `team-a/${id}`]) {
        const container = await containers.create({ labels: { [LABEL]: value } });
        expect((await located(workspaceOf(id))).identity).toBe(`docker:${container.id}`);
        await containers.removeAll();
      }
    });

    test('finds a container by the name rule', async () => {
      const id = unique();
      const container = await containers.create({ name: `ws-${id.slice(0, 12)}` });
      const target = await located(workspaceOf(id));
      expect(target.identity).toBe(`docker:${container.id}`);
      expect(target.description).toBe(`container ws-${id.slice(0, 12)} on engine default`);
    });

    test('believes the label more than the name', async () => {
      const id = unique();
      await containers.create({ name: `ws-${id.slice(0, 12)}` });
      const labelled = await containers.create({ labels: { [LABEL]: id } });
      expect((await located(workspaceOf(id))).identity).toBe(`docker:${labelled.id}`);
    });

    test('refuses a container that nothing proves to be of the workspace', async () => {
      const [id, other] = [unique(), unique()];
      await containers.create({ name: other });
      expect(await refusal(workspaceOf(id, { container: other }))).toMatchObject({
        class: 'terminal',
        reason: 'TargetUnproven',
      });
    });

    test('refuses a container that is labelled for another workspace, whatever its name', async () => {
      const [id, other] = [unique(), unique()];
      const name = `ws-${id.slice(0, 12)}`;
      await containers.create({ name, labels: { [LABEL]: other } });
      for (const workspace of [workspaceOf(id), workspaceOf(id, { container: name })]) {
        expect(await refusal(workspace)).toMatchObject({ class: 'terminal', reason: 'TargetUnproven' });
      }
    });

    test('takes a container that is named and proven', async () => {
      const [id, name] = [unique(), unique()];
      const container = await containers.create({ name, labels: { [LABEL]: `team-a/${id}` } });
      expect((await located(workspaceOf(id, { container: name }))).identity).toBe(`docker:${container.id}`);
    });

    test('takes another label and another prefix where the operator says so', async () => {
      const [id, other] = [unique(), unique()];
      const rules = { label: 'com.acme/agent', namePrefix: 'agent-' };
      const labelled = await containers.create({ labels: { 'com.acme/agent': id } });
      expect((await located(workspaceOf(id), rules)).identity).toBe(`docker:${labelled.id}`);
      const named = await containers.create({ name: `agent-${other.slice(0, 12)}` });
      expect((await located(workspaceOf(other), rules)).identity).toBe(`docker:${named.id}`);
      expect(await refusal(workspaceOf(other))).toMatchObject({ reason: 'WorkspaceNotFound' });
    });

    test('lets nobody choose a container by the id of a workspace, where ids are not trusted', async () => {
      const id = unique();
      await containers.create({ name: `ws-${id.slice(0, 12)}` });
      expect(await refusal(workspaceOf(id), { trustIds: false })).toMatchObject({ reason: 'WorkspaceNotFound' });
      await containers.create({ labels: { [LABEL]: id } });
      expect(await refusal(workspaceOf(id), { trustIds: false })).toMatchObject({ reason: 'WorkspaceNotFound' });
      const own = await containers.create({ labels: { [LABEL]: `team-a/${id}` } });
      expect((await located(workspaceOf(id), { trustIds: false })).identity).toBe(`docker:${own.id}`);
    });

    test('takes the operator at his word, whatever the label', async () => {
      const [id, name] = [unique(), unique()];
      const container = await containers.create({ name, labels: { [LABEL]: 'team-b/somebody' } });
      const rules = { containers: [{ workspace: `team-a/${id}`, container: name, engine: 'default' }] };
      for (const workspace of [workspaceOf(id), workspaceOf(id, { container: name })])
        expect((await located(workspace, rules)).identity).toBe(`docker:${container.id}`);
      expect(await refusal(workspaceOf(unique(), { container: name }), rules)).toMatchObject({
        reason: 'TargetUnproven',
      });
    });

    test('lets no label take away what the operator has given to somebody', async () => {
      const [id, name] = [unique(), unique()];
      await containers.create({ name, labels: { [LABEL]: `team-a/${id}` } });
      const rules = { containers: [{ workspace: 'team-b/somebody', container: name, engine: 'default' }] };
      for (const workspace of [workspaceOf(id), workspaceOf(id, { container: name })]) {
        expect(await refusal(workspace, rules)).toMatchObject({
          reason: 'TargetUnproven',
          message: expect.stringContaining('team-b/somebody') as string,
        });
      }
    });

    test('takes no beginning of an id for a name', async () => {
      const id = unique();
      const container = await containers.create({ labels: { [LABEL]: id } });
      expect(await refusal(workspaceOf(id, { container: container.id.slice(0, 12) }))).toMatchObject({
        reason: 'WorkspaceNotFound',
      });
    });

    test('takes the one of two labelled containers that runs, and neither when both do', async () => {
      const id = unique();
      const labels = { [LABEL]: id };
      const old = await containers.create({ labels, name: `${id}-old` });
      const fresh = await containers.create({ labels, name: `${id}-new` });
      expect(await refusal(workspaceOf(id))).toMatchObject({
        class: 'terminal',
        reason: 'TargetUnproven',
        message: expect.stringContaining(`${id}-new and ${id}-old`) as string,
      });
      await old.kill();
      expect((await located(workspaceOf(id))).identity).toBe(`docker:${fresh.id}`);
      await fresh.kill();
      expect(await refusal(workspaceOf(id))).toMatchObject({ reason: 'TargetUnproven' });
    });

    test('waits for a container that does not run: created, paused, ended', async () => {
      const id = unique();
      const container = await containers.create({ labels: { [LABEL]: id }, start: false });
      const waits = { class: 'waiting', reason: 'WorkspaceNotRunning' };
      expect(await refusal(workspaceOf(id))).toMatchObject(waits);
      await container.start();
      const target = await located(workspaceOf(id));
      await container.pause();
      expect(await refusal(workspaceOf(id))).toMatchObject(waits);
      await expect(target.run(['true'], { as: 'observer', deadlineMs: 60_000, signal })).rejects.toMatchObject(waits);
      await container.unpause();
      await container.kill();
      expect(await refusal(workspaceOf(id))).toMatchObject(waits);
      await expect(target.run(['true'], { as: 'observer', deadlineMs: 60_000, signal })).rejects.toMatchObject(waits);
    });

    test('tells of a stopped container when it was started last, and starts that very one', async () => {
      const id = unique();
      const container = await containers.create({ labels: { [LABEL]: id } });
      const provider = reachedBy({ default: address });
      const stopped = () => provider.locateStopped(workspaceOf(id), signal);
      expect(await stopped(), 'it runs').toBeUndefined();
      await container.stop({ t: 1 });
      const found = await stopped();
      expect(found?.description).toContain('on engine default');
      const { State } = await container.inspect();
      expect(found?.startedAtMs).toBe(Date.parse(State.StartedAt));
      await found?.start(signal);
      expect((await located(workspaceOf(id))).identity).toBe(`docker:${container.id}`);
      expect(Date.parse((await container.inspect()).State.StartedAt)).toBeGreaterThan(found?.startedAtMs ?? 0);
      expect(await stopped(), 'it runs again').toBeUndefined();
    });

    test('has nothing to start where a container was never started, is paused, was replaced or removed', async () => {
      const id = unique();
      const provider = reachedBy({ default: address });
      const stopped = () => provider.locateStopped(workspaceOf(id), signal);
      await expect(stopped()).rejects.toMatchObject({ class: 'waiting', reason: 'WorkspaceNotFound' });
      const container = await containers.create({ labels: { [LABEL]: id }, start: false });
      expect(await stopped(), 'never started').toBeUndefined();
      await container.start();
      await container.pause();
      expect(await stopped(), 'paused').toBeUndefined();
      await container.unpause();
      await container.kill();
      const found = await stopped();
      const other = await containers.create({ labels: { [LABEL]: id } });
      expect(await stopped(), 'another one runs').toBeUndefined();
      await Promise.all([container.remove({ force: true }), other.remove({ force: true })]);
      await expect(found?.start(signal)).rejects.toMatchObject({ name: 'ReconcileError' });
      await expect(stopped()).rejects.toMatchObject({ reason: 'WorkspaceNotFound' });
    });

    test('starts no container that is not proven, nor any of an engine that cannot be asked', async () => {
      const id = unique();
      const container = await containers.create({ name: `somebodys-${id}` });
      await container.kill();
      const proxy = await FaultProxy.open(address);
      onTestFinished(() => proxy.close());
      const provider = reachedBy({ default: proxy.address });
      const stopped = () => provider.locateStopped(workspaceOf(id, { container: `somebodys-${id}` }), signal);
      await expect(stopped()).rejects.toMatchObject({ class: 'terminal', reason: 'TargetUnproven' });
      proxy.refuse();
      await expect(stopped()).rejects.toMatchObject({ class: 'transient', reason: 'Unreachable' });
    });

    test('I-56: absent, not running and could not look are three answers, and none of them is an empty success', async () => {
      const id = unique();
      const proxy = await FaultProxy.open(address);
      onTestFinished(() => proxy.close());
      const provider = reachedBy({ default: proxy.address });
      const answer = () => provider.locate(workspaceOf(id), signal).catch((error: unknown) => error);
      expect(await answer()).toMatchObject({ class: 'waiting', reason: 'WorkspaceNotFound' });
      const container = await containers.create({ labels: { [LABEL]: id }, start: false });
      expect(await answer()).toMatchObject({ class: 'waiting', reason: 'WorkspaceNotRunning' });
      await container.start();
      proxy.refuse();
      expect(await answer()).toMatchObject({ class: 'transient', reason: 'Unreachable' });
      proxy.heal();
      expect(await answer()).toMatchObject({ identity: `docker:${container.id}` });
    });

    test('G-16: an engine that accepts and never answers costs its deadline and nothing more', async () => {
      const id = unique();
      await containers.create({ labels: { [LABEL]: id } });
      const proxy = await FaultProxy.open(address);
      onTestFinished(() => proxy.close());
      const provider = reachedBy({ default: address, hung: proxy.address }, { requestTimeoutMs: 500 });
      const target = await provider.locate(workspaceOf(id, { engine: 'hung' }), signal);
      proxy.blackHole();
      const unreachable = { class: 'transient', reason: 'Unreachable' };
      // Listened to from the start: they may well end before the look elsewhere does.
      const hung = Promise.allSettled(
        Array.from({ length: 20 }, () => provider.locate(workspaceOf(id, { engine: 'hung' }), signal)),
      );
      const elsewhere = await provider.locate(workspaceOf(id), signal);
      expect(await elsewhere.run(['true'], { as: 'observer', deadlineMs: 60_000, signal })).toMatchObject({ code: 0 });
      for (const result of await hung) expect(result).toMatchObject({ status: 'rejected', reason: unreachable });
      await expect(target.run(['true'], { as: 'observer', deadlineMs: 60_000, signal })).rejects.toMatchObject(
        unreachable,
      );
      expect(await target.probe('/configs', signal)).toMatchObject({ kind: 'unknown' });
    });

    test('stops asking at once when it is called off', async () => {
      const proxy = await FaultProxy.open(address);
      onTestFinished(() => proxy.close());
      proxy.blackHole();
      const stop = new AbortController();
      const asking = reachedBy({ default: proxy.address }).locate(workspaceOf(unique()), stop.signal);
      await eventually(() => expect(proxy.asked).toBeGreaterThan(0));
      stop.abort(new Error('lease lost'));
      await expect(asking).rejects.toMatchObject({ class: 'aborted' });
      // Streams by SSH that come about only now have been asked nothing, and are kept for whoever asks next.
      await eventually(() => expect(proxy.asked).toBe(0));
    });

    test('kills children that have made a session of their own', async () => {
      const id = unique();
      const container = await containers.create({ labels: { [LABEL]: id } });
      const target = await located(workspaceOf(id));
      const nap = String(1_000_000 + randomBytes(4).readUInt32BE());
      const running = target.run(['sh', '-c', 'setsid sleep "$1" & sleep "$1"', 'sh', nap], {
        as: { uid: 1000, gid: 1000 },
        deadlineMs: 3_000,
        signal,
      });
      await expect(running).rejects.toMatchObject({ reason: 'ExecTimeout' });
      const { Processes } = (await container.top({ ps_args: '-eo pid,args' })) as { Processes: string[][] };
      expect(Processes.filter((row) => row.join(' ').includes(nap))).toEqual([]);
    });

    test('does not let the image choose the programs that run as root', async () => {
      const id = unique();
      const env = ['PATH=/tmp:/bin', 'LD_PRELOAD=/tmp/evil.so'];
      const container = await containers.create({ labels: { [LABEL]: id }, env });
      await containers.exec(
        container,
        ['/bin/sh', '-c', 'printf "#!/bin/sh\\necho forged\\n" >/tmp/id; chmod 755 /tmp/id'],
        { user: '1000:1000' },
      );
      const result = await (
        await located(workspaceOf(id))
      ).run(['id', '-u'], { as: 'observer', deadlineMs: 60_000, signal });
      expect(result.kind === 'exited' && result.stdout.toString()).toBe('0\n');
    });

    test('sees a place where nothing was ever installed, however the container was found', async () => {
      const [id, name] = [unique(), unique()];
      const container = await containers.create({ name, labels: { [LABEL]: id } });
      for (const docker of [{}, { container: name }]) {
        const target = await located(workspaceOf(id, docker));
        expect(await target.probe('/configs', signal)).toEqual({ kind: 'blank' });
        expect(await target.probe('/nowhere', signal)).toMatchObject({ kind: 'unknown' });
      }
      await containers.exec(container, ['mkdir', '/configs/.plugset']);
      expect(await (await located(workspaceOf(id))).probe('/configs', signal)).toMatchObject({ kind: 'unknown' });
    });

    test('has one token for a container, found by name or by label', async () => {
      const [id, name] = [unique(), unique()];
      const container = await containers.create({ name, labels: { [LABEL]: id } });
      await containers.exec(container, ['mkdir', '-p', '/configs/plugins', '/configs/.plugset/receipts']);
      const byLabel = await (await located(workspaceOf(id))).probe('/configs', signal);
      expect(byLabel).toMatchObject({ kind: 'token' });
      expect(await (await located(workspaceOf(id, { container: name }))).probe('/configs', signal)).toEqual(byLabel);
    });

    test('has no token for a tmpfs, which the engine cannot see into; that it seems blank is a hint and no more', async () => {
      const id = unique();
      await containers.create({ labels: { [LABEL]: id }, host: { Tmpfs: { '/configs': '' } } });
      const target = await located(workspaceOf(id));
      await target.run(['mkdir', '-p', '/configs/plugins', '/configs/.plugset/receipts'], {
        as: 'observer',
        deadlineMs: 60_000,
        signal,
      });
      expect(await target.probe('/configs', signal)).toEqual({ kind: 'blank' });
    });

    test('moves the token when the container is started anew', async () => {
      const id = unique();
      const container = await containers.create({ labels: { [LABEL]: id } });
      const target = await located(workspaceOf(id));
      await target.run(['mkdir', '-p', '/configs/plugins', '/configs/.plugset/receipts'], {
        as: 'observer',
        deadlineMs: 60_000,
        signal,
      });
      const before = await target.probe('/configs', signal);
      expect(before).toMatchObject({ kind: 'token' });
      await container.restart({ t: 0 });
      const after = await (await located(workspaceOf(id))).probe('/configs', signal);
      expect(after).toMatchObject({ kind: 'token' });
      expect(after).not.toEqual(before);
    });
  });

  describe(`DockerTargetProvider.watch${how}`, () => {
    const containers = new TestContainers(address);
    afterEach(() => containers.removeAll());

    /** An engine is followed from the first time that a workspace on it is looked for. */
    const touch = (provider: DockerTargetProvider): Promise<unknown> =>
      provider.locate(workspaceOf(unique()), signal).catch(() => undefined);

    test('does not speak to an engine that no workspace is on', async () => {
      const proxy = await FaultProxy.open(address);
      onTestFinished(() => proxy.close());
      const provider = reachedBy({ default: address, unused: proxy.address });
      const stop = new AbortController();
      onTestFinished(() => stop.abort());
      const seen = { gaps: 0 };
      provider.watch(
        () => undefined,
        () => (seen.gaps += 1),
        stop.signal,
      );
      await touch(provider);
      await eventually(() => expect(seen.gaps).toBe(1));
      expect(proxy.accepted).toBe(0);
    });

    /** Watches until the test has ended, from the moment the stream stands. */
    async function watched(
      engineAddress: string,
      limits: Limits = {},
    ): Promise<{ readonly stirs: string[]; gaps: number }> {
      const seen = { stirs: [] as string[], gaps: 0 };
      const stop = new AbortController();
      onTestFinished(() => stop.abort());
      const provider = reachedBy({ default: engineAddress }, limits);
      provider.watch(
        (stirred) => seen.stirs.push(stirred),
        () => (seen.gaps += 1),
        stop.signal,
      );
      await touch(provider);
      await eventually(() => expect(seen.gaps).toBe(1));
      return seen;
    }

    test('names a container by label and name through its whole life', async () => {
      const seen = await watched(address);
      const [id, name, renamed] = [unique(), unique(), unique()];
      const container = await containers.create({ name, labels: { [LABEL]: id }, start: false });
      const steps: readonly (() => Promise<unknown>)[] = [
        async () => undefined,
        () => container.start(),
        () => container.pause(),
        () => container.unpause(),
        () => container.kill(),
        () => container.remove(),
      ];
      for (const step of steps) {
        await step();
        await eventually(() => {
          expect(seen.stirs).toContain(`docker:default:label:${id}`);
          expect(seen.stirs).toContain(`docker:default:name:${name}`);
        });
        seen.stirs.length = 0;
      }
      const other = await containers.create({ name, start: false });
      seen.stirs.length = 0;
      await other.rename({ name: renamed });
      await eventually(() =>
        expect(seen.stirs).toEqual(
          expect.arrayContaining([`docker:default:name:${name}`, `docker:default:name:${renamed}`]),
        ),
      );
      expect(seen.gaps).toBe(1);
    });

    test('connects again when the stream breaks, and says that there was a gap', async () => {
      const proxy = await FaultProxy.open(address);
      onTestFinished(() => proxy.close());
      const seen = await watched(proxy.address);
      proxy.cut();
      await eventually(() => expect(seen.gaps).toBe(2));
      const name = unique();
      await containers.create({ name, start: false });
      await eventually(() => expect(seen.stirs).toContain(`docker:default:name:${name}`));
    });

    test('notices an engine that has gone silent for good', async () => {
      const proxy = await FaultProxy.open(address);
      onTestFinished(() => proxy.close());
      const seen = await watched(proxy.address, { inactivityMs: 100, requestTimeoutMs: 300 });
      proxy.blackHole();
      await eventually(() => expect(proxy.connections).toBe(0));
      proxy.heal();
      await eventually(() => expect(seen.gaps).toBeGreaterThan(1));
    });

    test('stays with an engine that is merely quiet', async () => {
      const proxy = await FaultProxy.open(address);
      onTestFinished(() => proxy.close());
      const seen = await watched(proxy.address, { inactivityMs: 20, requestTimeoutMs: 5_000 });
      // A connection besides that of the stream: it has been asked whether it is alive.
      await eventually(() => expect(proxy.accepted).toBeGreaterThan(1));
      expect(seen.gaps).toBe(1);
    });

    test('goes on trying an engine that is down at first', async () => {
      const proxy = await FaultProxy.open(address);
      onTestFinished(() => proxy.close());
      proxy.refuse();
      const seen = { gaps: 0 };
      const stop = new AbortController();
      onTestFinished(() => stop.abort());
      const provider = reachedBy({ default: proxy.address });
      provider.watch(
        () => undefined,
        () => (seen.gaps += 1),
        stop.signal,
      );
      await touch(provider);
      await eventually(() => expect(proxy.accepted).toBeGreaterThan(1));
      proxy.heal();
      await eventually(() => expect(seen.gaps).toBe(1));
    });
  });
}
