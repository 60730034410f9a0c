import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';

import type { Workspace } from '../../src/domain/workspace.ts';
import type { WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import { FakeAws } from '../support/aws/fake-aws.ts';
import type { FakeInstance, LaunchOptions } from '../support/aws/fake-instance.ts';
import { expectNoSecrets } from '../support/aws/secrets.ts';
import { withBackend } from '../support/backend.ts';
import { Ec2Hosts, type Ec2HostsOptions } from '../support/ec2-host.ts';
import { eventually } from '../support/eventually.ts';
import { recordingMetrics } from '../support/recording-metrics.ts';
import { MemoryControllerState } from '../support/memory-state.ts';
import { workspaceAt } from '../support/workspaces.ts';

const TAG = 'plugset.dev/workspace';
const { signal } = new AbortController();

type Ec2 = { instanceId?: string; tags?: Record<string, string>; region?: string };

function alice(ec2: Ec2 = {}): Workspace {
  return workspaceAt({ ec2 }, { name: 'alice', id: '4c1e0b6a' });
}

let aws: FakeAws;
beforeEach(async () => {
  aws = await FakeAws.start();
});
afterEach(() => aws.close());

function hostsOf(options: Ec2HostsOptions = {}): Ec2Hosts {
  const hosts = new Ec2Hosts(aws, options);
  onTestFinished(() => hosts.close());
  return hosts;
}

/** What it fails with, having looked that neither it nor what is under it shows a secret. */
async function failure(work: Promise<unknown>): Promise<unknown> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Error);
  expectNoSecrets(aws, error);
  return error;
}

describe('an ec2 target', () => {
  function locate(workspace: Workspace, options: Ec2HostsOptions = {}): Promise<WorkspaceTarget> {
    return hostsOf(options).provider.locate(workspace, signal);
  }

  describe('which instance', () => {
    /** As much of an instance as AWS tells; nothing runs. */
    function described(tags: Record<string, string>, state: FakeInstance['state'] = 'running'): string {
      const id = `i-${String(aws.instances.length).padStart(17, '0')}`;
      const launchedAt = new Date('2026-01-01T00:00:00Z');
      const place = { vpcId: 'vpc-1', subnetId: 'subnet-1', privateIp: '10.0.0.5', options: {} };
      const instance = { id, tags, state, launchedAt, ...place, terminate: async () => undefined };
      aws.instances.push(instance as unknown as FakeInstance);
      return id;
    }

    test('is known by id and by tags before it is looked for', () => {
      const { provider } = hostsOf({
        access: {
          rules: { tag: TAG, trustIds: true, instances: [{ workspace: 'team-a/bob', instanceId: 'i-0b0b0b0b' }] },
        },
      });
      expect(provider.addresses(alice({ instanceId: 'i-01234567' }))).toEqual(['ec2:eu-test-1:id:i-01234567']);
      expect(provider.addresses(alice({ tags: { b: '2', a: '1' }, region: 'us-east-2' }))).toEqual([
        'ec2:us-east-2:tags:[["a","1"],["b","2"]]',
      ]);
      expect(provider.addresses(alice())).toEqual([
        `ec2:eu-test-1:tags:[["${TAG}","team-a/alice"]]`,
        `ec2:eu-test-1:tags:[["${TAG}","4c1e0b6a"]]`,
      ]);
      expect(provider.addresses(workspaceAt({ ec2: {} }, { name: 'bob' }))).toEqual(['ec2:eu-test-1:id:i-0b0b0b0b']);
      expect(provider.lane(alice())).toBe('ec2:eu-test-1');
    });

    test.each(['team-a/alice', '4c1e0b6a'])('is the one tagged %s', async (value) => {
      const id = described({ [TAG]: value });
      const target = await locate(alice());
      expect(target.identity).toBe(`ec2:${id}`);
      expect(target.description).toBe(`instance ${id} in eu-test-1`);
      // Nobody had to be logged in to for that.
      expect(aws.calls).toEqual(['DescribeInstances']);
    });

    test('an id of a workspace proves nothing where ids are not trusted', async () => {
      described({ [TAG]: '4c1e0b6a' });
      const access = { rules: { tag: TAG, trustIds: false, instances: [] } };
      expect(await failure(locate(alice(), { access }))).toMatchObject({ reason: 'WorkspaceNotFound' });
      const named = alice({ instanceId: 'i-00000000000000000' });
      expect(await failure(locate(named, { access }))).toMatchObject({ class: 'terminal', reason: 'TargetUnproven' });
    });

    test('is the one that the operator names, and nobody else can name it', async () => {
      const instanceId = described({});
      const instances = [{ workspace: 'team-a/alice', instanceId }];
      const access = { rules: { tag: TAG, trustIds: true, instances } };
      expect((await locate(alice(), { access })).identity).toBe(`ec2:${instanceId}`);
      const bob = workspaceAt({ ec2: { instanceId } }, { name: 'bob' });
      const refused = await failure(locate(bob, { access }));
      expect(refused).toMatchObject({ reason: 'TargetUnproven' });
      expect((refused as Error).message).not.toContain('alice');
    });

    test('is refused where nothing proves it', async () => {
      const instanceId = described({ role: 'agent' });
      const refused = await failure(locate(alice({ instanceId })));
      expect(refused).toMatchObject({ class: 'terminal', reason: 'TargetUnproven' });
    });

    test('is asked for by what proves it, whatever tags are declared', async () => {
      const id = described({ [TAG]: 'team-a/alice', role: 'agent' });
      described({ role: 'agent' });
      const { provider } = hostsOf();
      const bob = (key: string) => workspaceAt({ ec2: { tags: { [key]: 'agent' } } }, { name: 'bob' });
      const all = [alice({ tags: { role: 'agent' } }), ...['role', 'x', 'y', 'z'].map(bob)];
      const [found, ...others] = await Promise.allSettled(all.map((one) => provider.locate(one, signal)));
      expect(found).toMatchObject({ status: 'fulfilled', value: { identity: `ec2:${id}` } });
      for (const other of others) expect(other).toMatchObject({ reason: { reason: 'WorkspaceNotFound' } });
      expect(aws.count('DescribeInstances')).toBe(1);
    });

    test('is looked for beside a declaration that AWS does not take', async () => {
      const id = described({ [TAG]: 'team-a/alice' });
      aws.faults.refuse('team-a/bob', 'InvalidParameterValue');
      const { provider } = hostsOf();
      const [found, refused] = await Promise.all([
        provider.locate(alice(), signal),
        failure(provider.locate(workspaceAt({ ec2: {} }, { name: 'bob' }), signal)),
      ]);
      expect(found.identity).toBe(`ec2:${id}`);
      expect(refused).toMatchObject({
        class: 'terminal',
        reason: 'InvalidSpec',
        message: expect.stringContaining(`tags ${TAG}=team-a/bob (InvalidParameterValue)`) as string,
      });
    });

    test('is waited for while there is none', async () => {
      for (const ec2 of [{}, { instanceId: 'i-0badc0ffee0badc0f' }, { tags: { role: 'agent' } }]) {
        expect(await failure(locate(alice(ec2)))).toMatchObject({ class: 'waiting', reason: 'WorkspaceNotFound' });
      }
      described({ [TAG]: 'team-a/alice' }, 'terminated');
      expect(await failure(locate(alice()))).toMatchObject({
        reason: 'WorkspaceNotFound',
        message: expect.stringContaining('is terminated') as string,
      });
    });

    test('is nobody while several fit, unless one takes the place of another', async () => {
      const tags = { [TAG]: 'team-a/alice' };
      described(tags, 'terminated');
      described(tags, 'stopping');
      const young = described(tags);
      expect((await locate(alice())).identity).toBe(`ec2:${young}`);
      described(tags);
      expect(await failure(locate(alice()))).toMatchObject({ class: 'terminal', reason: 'TargetAmbiguous' });
    });

    test.each([
      ['pending', 'WorkspaceNotRunning'],
      ['stopping', 'WorkspaceNotRunning'],
      ['stopped', 'WorkspaceNotRunning'],
      ['shutting-down', 'WorkspaceNotFound'],
      ['terminated', 'WorkspaceNotFound'],
    ] as const)('is waited for while it is %s', async (state, reason) => {
      const instanceId = described({ [TAG]: 'team-a/alice' }, state);
      expect(await failure(locate(alice({ instanceId })))).toMatchObject({
        class: 'waiting',
        reason,
        message: expect.stringContaining(state) as string,
      });
    });

    test('is looked for only where the operator allows it', async () => {
      expect(await failure(locate(alice({ region: 'us-east-2' })))).toMatchObject({ reason: 'TargetNotAllowed' });
      const access = { regions: [{ name: aws.region, namespaces: ['team-b'] }] };
      expect(await failure(locate(alice(), { access }))).toMatchObject({ reason: 'TargetNotAllowed' });
      expect(await failure(locate(alice(), { access: { regions: [] } }))).toMatchObject({ reason: 'TargetNotAllowed' });
      expect(aws.calls).toEqual([]);
    });

    test('is only what has the tags that one of the entries for its namespace demands', async () => {
      const instanceId = described({ [TAG]: 'team-a/alice', team: 'a' }, 'pending');
      const regions = [
        { name: 'us-east-2', namespaces: ['team-b'] },
        { name: aws.region, namespaces: ['team-a'], tags: { team: 'shared' } },
        { name: aws.region, namespaces: ['team-b'], tags: { team: 'a' } },
      ];
      const refused = await failure(locate(alice({ instanceId }), { access: { regions } }));
      expect(refused).toMatchObject({
        reason: 'TargetNotAllowed',
        message: expect.stringContaining('targets.ec2.regions, tags') as string,
      });
      const more = [...regions, { name: aws.region, namespaces: ['team-a'], tags: { team: 'a' } }];
      // It names no region: the first that is for its namespace is meant.
      const found = await failure(locate(alice(), { access: { regions: more } }));
      expect(found).toMatchObject({ reason: 'WorkspaceNotRunning' });
    });

    test('is told to be there, to have ended or to be missing, and of nobody else', async () => {
      const running = described({});
      const stopped = described({}, 'stopped');
      const gone = described({}, 'terminated');
      const at = (id: string, region = aws.region): string => `ec2:${region}:id:${id}`;
      const { provider } = hostsOf();
      const missing = 'i-0badc0ffee0badc0f';
      const addresses = [at(running), at(stopped), at(gone), at(missing), at(running, 'us-east-2'), 'docker:default:x'];
      expect(await provider.fatesOf(addresses, signal)).toEqual(
        new Map([
          [at(running), 'there'],
          [at(stopped), 'there'],
          [at(gone), 'ended'],
          [at(missing), 'missing'],
        ]),
      );
      expect(aws.count('DescribeInstances')).toBe(1);
      // The stand-in takes no signature for another region.
      const { provider: two } = hostsOf({ access: { regions: [{ name: 'us-east-2' }, { name: aws.region }] } });
      expect((await two.fatesOf(addresses, signal)).get(at(gone))).toBe('ended');
      aws.faults.deny('DescribeInstances');
      expect(await failure(provider.fatesOf(addresses, signal))).toMatchObject({ reason: 'AccessDenied' });
      // Nobody has to be asked of what is not there to be asked for.
      expect(await provider.fatesOf(['docker:default:x'], signal)).toEqual(new Map());
    });

    test('a probe tells one that was started anew from before', async () => {
      described({ [TAG]: 'team-a/alice' });
      const hosts = hostsOf();
      const target = await hosts.provider.locate(alice(), signal);
      const before = await target.probe('/configs', signal);
      expect(before).toMatchObject({ kind: 'token' });
      expect(await target.probe('/configs', signal)).toEqual(before);
      Object.assign(aws.instances[0] ?? {}, { launchedAt: new Date('2026-01-02T00:00:00Z') });
      hosts.doubt();
      const after = await target.probe('/configs', signal);
      expect(after).toMatchObject({ kind: 'token' });
      expect(after).not.toEqual(before);
    });
  });
});

await withBackend('machine', () => {
  describe('an instance behind its endpoint', () => {
    const launch = (options: LaunchOptions = {}): Promise<FakeInstance> =>
      aws.launch({ tags: { [TAG]: 'team-a/alice' }, ...options });

    /** Locates it and runs a command there, as a pass does. */
    async function pass(hosts: Ec2Hosts, workspace = alice()): Promise<string> {
      const target = await hosts.provider.locate(workspace, signal);
      const result = await target.run(['hostname'], { as: 'observer', deadlineMs: 30_000, signal });
      return result.kind === 'exited' ? result.stdout.toString().trim() : result.message;
    }

    test('is logged in to once for many commands, with a key that is pushed for it', async () => {
      const { privateIp } = await launch();
      const hosts = hostsOf();
      const name = `ip-${privateIp.replaceAll('.', '-')}`;
      expect(await pass(hosts)).toBe(name);
      expect(await Promise.all([pass(hosts), pass(hosts), pass(hosts)])).toEqual([name, name, name]);
      expect(aws.count('SendSSHPublicKey')).toBe(1);
      expect(aws.count('OpenTunnel')).toBe(1);
      expect(aws.count('DescribeInstanceConnectEndpoints')).toBe(1);
      expect((await hosts.provider.locate(alice(), signal)).description).not.toMatch(/not verified/);
    });

    test('is reached by its IPv6 address where the endpoint has no other', async () => {
      aws.endpoints.length = 0;
      aws.createEndpoint({ ipAddressType: 'ipv6' });
      await launch({ ipv6: '2600:1f10::5' });
      expect(await pass(hostsOf())).toMatch(/^ip-/);
    });

    test('is reached at FIPS endpoints, for no longer than IAM allows, and by a clock that is two minutes off', async () => {
      aws.endpoints.length = 0;
      aws.createEndpoint({ fipsDnsName: new URL(aws.url).host, dnsName: 'nowhere.invalid' });
      aws.tunnels.durationCap = 600;
      aws.clockSkewMs = 120_000;
      await launch();
      expect(await failure(pass(hostsOf({ access: { fips: true } })))).toMatchObject({
        class: 'terminal',
        reason: 'AccessDenied',
      });
      expect(await pass(hostsOf({ access: { fips: true, maxTunnelSeconds: 600 } }))).toMatch(/^ip-/);
    });

    test('believes the key on its console, and no other one', async () => {
      const instance = await launch();
      const other = await aws.launch();
      instance.consoleOutput = other.consoleOutput;
      expect(await failure(pass(hostsOf()))).toMatchObject({ class: 'terminal', reason: 'HostKeyMismatch' });
    });

    test('waits for a console that tells nothing yet, then goes by the policy', async () => {
      const instance = await launch();
      instance.consoleOutput = 'booting';
      for (const hostKeys of ['console', 'strict'] as const) {
        expect(await failure(pass(hostsOf({ access: { hostKeys } })))).toMatchObject({
          class: 'waiting',
          reason: 'HostKeyUnknown',
        });
      }
      Object.assign(instance, { launchedAt: new Date(Date.now() - 600_000) });
      expect(await failure(pass(hostsOf({ access: { hostKeys: 'strict' } })))).toMatchObject({
        class: 'terminal',
        reason: 'HostKeyUnknown',
      });
      for (const hostKeys of ['console', 'tofu'] as const) {
        const hosts = hostsOf({ access: { hostKeys } });
        expect(await pass(hosts)).toMatch(/^ip-/);
        expect((await hosts.provider.locate(alice(), signal)).description).toMatch(/host key not verified/);
      }
    });

    test('is known by its key from then on, and one that replaces it under the same address by its own', async () => {
      const state = new MemoryControllerState();
      const instance = await launch();
      expect(await pass(hostsOf({ state }))).toMatch(/^ip-/);
      const young = await aws.replace(instance);
      expect(young.privateIp).toBe(instance.privateIp);
      expect(await pass(hostsOf({ state }))).toMatch(/^ip-/);
      await young.ssh.changeHostKeys();
      expect(await failure(pass(hostsOf({ state })))).toMatchObject({ class: 'terminal', reason: 'HostKeyMismatch' });
    });

    test('tries another key when one came too late or never got there', async () => {
      const instance = await launch();
      const hosts = hostsOf();
      instance.keysToLose = 1;
      expect(await failure(pass(hosts))).toMatchObject({ class: 'transient', reason: 'LoginKeyRefused' });
      expect(await pass(hosts)).toMatch(/^ip-/);
    });

    test('goes on over a connection whose key has expired', async () => {
      const instance = await launch();
      const hosts = hostsOf();
      await pass(hosts);
      await instance.expireKeys();
      expect(await pass(hosts)).toMatch(/^ip-/);
      expect(aws.count('SendSSHPublicKey')).toBe(1);
    });

    test.each([
      ['DescribeInstances', 'AccessDenied'],
      ['DescribeInstanceConnectEndpoints', 'AccessDenied'],
      ['GetConsoleOutput', 'AccessDenied'],
      ['OpenTunnel', 'AccessDenied'],
      ['SendSSHPublicKey', 'AccessDenied'],
    ] as const)('says that %s is denied, and goes on when it is not', async (action, reason) => {
      await launch();
      const hosts = hostsOf();
      aws.faults.deny(action);
      expect(await failure(pass(hosts))).toMatchObject({
        class: 'terminal',
        reason,
        message: expect.stringContaining(action) as string,
      });
      aws.faults.heal();
      expect(await pass(hosts)).toMatch(/^ip-/);
    });

    test.each(['DescribeInstances', 'DescribeInstanceConnectEndpoints', 'OpenTunnel', 'SendSSHPublicKey'] as const)(
      'says that %s is throttled',
      async (action) => {
        await launch();
        aws.faults.throttle(action);
        expect(await failure(pass(hostsOf()))).toMatchObject({ class: 'transient', reason: 'Throttled' });
      },
    );

    test('gives up an API that does not answer, in time', async () => {
      await launch();
      aws.faults.hang('SendSSHPublicKey');
      expect(await failure(pass(hostsOf({ requestTimeoutMs: 300 })))).toMatchObject({
        class: 'transient',
        reason: 'Unreachable',
      });
    });

    test('says how a tunnel was closed: an instance that cannot be reached shows nowhere else', async () => {
      const instance = await launch();
      const hosts = hostsOf();
      aws.tunnels.closeAtOnce = { code: 1011, reason: 'Unable to connect to target' };
      expect(await failure(pass(hosts))).toMatchObject({ class: 'transient', reason: 'Unreachable' });
      aws.tunnels.closeAtOnce = undefined;
      await pass(hosts);
      await instance.stop();
      expect(await failure(pass(hosts))).toMatchObject({ class: 'waiting', reason: 'WorkspaceNotRunning' });
      await instance.start();
      hosts.doubt();
      expect(await pass(hosts)).toMatch(/^ip-/);
    });

    test('finds an endpoint that took the place of another', async () => {
      await launch();
      const hosts = hostsOf();
      await pass(hosts);
      aws.endpoints.length = 0;
      aws.tunnels.cut();
      expect(await failure(pass(hosts))).toMatchObject({
        class: 'terminal',
        reason: 'EndpointMissing',
      });
      aws.createEndpoint();
      expect(await pass(hosts)).toMatch(/^ip-/);
    });

    test('says that all tunnels of an endpoint are taken by others', async () => {
      await launch();
      aws.faults.fail('OpenTunnel', 'ConnectionLimitExceeded', { status: 429 });
      expect(await failure(pass(hostsOf()))).toMatchObject({ class: 'waiting', reason: 'EndpointBusy' });
    });

    test('moves to another tunnel before the first has to end, and loses no command', async () => {
      // Here a tunnel lives longer than it was asked to, so that a command on a busy machine has the time that is left to it.
      await aws.close();
      aws = await FakeAws.start({ tunnelSecondMs: 4_000 });
      await launch();
      const hosts = hostsOf({ access: { maxTunnelSeconds: 3 } });
      let commands = 0;
      while (aws.tunnels.opened < 4) {
        expect(await pass(hosts)).toMatch(/^ip-/);
        commands += 1;
      }
      expect(commands).toBeGreaterThan(aws.tunnels.opened);
    });

    test('several share few tunnels: idle ones make room, and the quota is kept', async () => {
      const names = ['a', 'b', 'c', 'd', 'e'];
      for (const name of names) await aws.launch({ tags: { [TAG]: `team-a/${name}` } });
      const hosts = hostsOf({ access: { tunnelsPerEndpoint: 2 } });
      const all = names.map((name) => workspaceAt({ ec2: {} }, { name }));
      await Promise.all(all.map((workspace) => pass(hosts, workspace)));
      await Promise.all(all.map((workspace) => pass(hosts, workspace)));
      const [endpoint] = aws.endpoints;
      if (endpoint === undefined) throw new Error('no endpoint');
      expect(aws.tunnels.peakAt(endpoint)).toBe(2);
    });

    test('counts what AWS is asked, tunnels, waits for them and logins', async () => {
      await launch();
      const metrics = recordingMetrics();
      const hosts = hostsOf({ metrics });
      await pass(hosts);
      const asked = ['DescribeInstances', 'GetConsoleOutput', 'DescribeInstanceConnectEndpoints', 'OpenTunnel'];
      expect(metrics.argsOf('awsAsked')).toEqual(
        [...asked, 'SendSSHPublicKey'].map((action) => [aws.region, action, 'ok', expect.any(Number)]),
      );
      expect(metrics.argsOf('tunnelWaited')).toEqual([[expect.any(Number)]]);
      expect(metrics.argsOf('loggedIn')).toEqual([['ok']]);
      const [[tunnels] = [], [sessions] = []] = [
        metrics.argsOf('observeTunnels')[0],
        metrics.argsOf('observeSessions')[0],
      ];
      expect((tunnels as () => unknown)()).toEqual([{ endpoint: aws.endpoints[0]?.id, open: 1, limit: 16 }]);
      expect((sessions as () => unknown)()).toBe(1);
      aws.tunnels.cut();
      await eventually(() => {
        expect((tunnels as () => unknown)()).toEqual([]);
        expect((sessions as () => unknown)()).toBe(0);
      });
      for (const [action, fail, outcome, login] of [
        ['OpenTunnel', () => aws.faults.deny('OpenTunnel'), 'denied', 'failed'],
        ['SendSSHPublicKey', () => aws.faults.throttle('SendSSHPublicKey'), 'throttled', 'failed'],
        ['DescribeInstances', () => aws.faults.fail('DescribeInstances', 'InternalError'), 'unanswered', undefined],
      ] as const) {
        fail();
        hosts.doubt();
        await failure(pass(hosts));
        expect(metrics.argsOf('awsAsked').at(-1)).toEqual([aws.region, action, outcome, expect.any(Number)]);
        if (login !== undefined) expect(metrics.argsOf('loggedIn').at(-1)).toEqual([login]);
        aws.faults.heal();
      }
    });

    test('gives its tunnels back when it is closed', async () => {
      await launch();
      const hosts = hostsOf();
      await pass(hosts);
      const [endpoint] = aws.endpoints;
      if (endpoint === undefined) throw new Error('no endpoint');
      expect(aws.tunnels.openAt(endpoint)).toBe(1);
      await hosts.provider.close();
      await eventually(() => expect(aws.tunnels.openAt(endpoint)).toBe(0));
    });
  });
});
