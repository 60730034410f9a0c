import { once } from 'node:events';

import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { WebSocket } from 'ws';

import { presignTunnel } from '../../src/adapters/aws/presign-tunnel.ts';
import type { RunResult, WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import { FakeAws } from '../support/aws/fake-aws.ts';
import type { FakeInstance } from '../support/aws/fake-instance.ts';
import { expectNoSecrets } from '../support/aws/secrets.ts';
import { withBackend } from '../support/backend.ts';
import { Ec2Hosts, type Ec2HostsOptions } from '../support/ec2-host.ts';
import { eventually } from '../support/eventually.ts';
import { workspaceAt } from '../support/workspaces.ts';

const ALL_TUNNELS = 20;
const { signal } = new AbortController();

/** What becomes of commands when an endpoint does what AWS says that it may do, or more. */
await withBackend('machine', () => {
  describe('a tunnel to an instance', () => {
    let aws: FakeAws;
    let instance: FakeInstance;
    beforeEach(async () => {
      aws = await FakeAws.start();
      // Where people log in at once, its server must not drop some of them.
      const sshdConfig = ['MaxStartups 100'];
      instance = await aws.launch({ tags: { 'plugset.dev/workspace': 'team-a/alice' }, sshdConfig });
    });
    afterEach(() => aws.close());

    function hostsOf(options: Ec2HostsOptions = {}): Ec2Hosts {
      const hosts = new Ec2Hosts(aws, options);
      onTestFinished(() => hosts.close());
      return hosts;
    }
    const locate = (hosts: Ec2Hosts): Promise<WorkspaceTarget> =>
      hosts.provider.locate(workspaceAt({ ec2: {} }), signal);
    const run = (target: WorkspaceTarget, argv: readonly string[], deadlineMs = 30_000): Promise<RunResult> =>
      target.run(argv, { as: 'observer', deadlineMs, signal });
    /** A command that has begun, and ends by nothing but what happens to its tunnel. */
    const begin = async (
      target: WorkspaceTarget,
      deadlineMs?: number,
    ): Promise<{ readonly end: Promise<RunResult> }> => {
      const end = run(target, ['sh', '-c', 'echo >/tmp/begun; sleep 1000'], deadlineMs);
      await eventually(() => instance.ssh.machine.exec(['test', '-e', '/tmp/begun']));
      return { end };
    };
    const asleep = ['pgrep', '-x', 'sleep'];

    /** As somebody does who works on the instance, past plugset. */
    async function opened(): Promise<WebSocket> {
      const [endpoint] = aws.endpoints;
      if (endpoint === undefined) throw new Error('no endpoint');
      const { accessKeyId, secretAccessKey, sessionToken = '' } = aws.credentials;
      const tunnel = {
        dnsName: endpoint.dnsName,
        endpointId: endpoint.id,
        remotePort: 22,
        address: instance.privateIp,
      };
      const credentials = { accessKeyId, secretAccessKey, sessionToken };
      const socket = new WebSocket(await presignTunnel(tunnel, { region: aws.region, credentials, date: new Date() }), {
        ca: aws.ca,
      });
      await once(socket, 'open');
      return socket;
    }

    it('is waited for while people have all of them, and had when one of them leaves', async () => {
      const people: WebSocket[] = [];
      for (let number = 0; number < ALL_TUNNELS; number += 1) people.push(await opened());
      const target = await locate(hostsOf());
      await expect(run(target, ['true'])).rejects.toMatchObject({
        class: 'waiting',
        reason: 'EndpointBusy',
        message: expect.stringContaining('HTTP 429, ConnectionLimitExceeded') as string,
      });
      people[0]?.close();
      await eventually(async () => expect(await run(target, ['true'])).toMatchObject({ code: 0 }));
    });

    it('that ends under a command, for its time is over, leaves it unknown, and the next command has another', async () => {
      const target = await locate(hostsOf());
      const { end } = await begin(target);
      // As its clock does it, which would not wait for a busy machine to begin.
      aws.tunnels.closeAll(1000, 'Maximum tunnel duration reached');
      expect(await end).toMatchObject({ kind: 'unknown' });
      expect(await run(target, asleep)).toMatchObject({ code: 1 });
      expect(aws.tunnels.opened).toBeGreaterThan(1);
    });

    it.each([
      ['that says text', (tunnels: FakeAws['tunnels']) => tunnels.sendText()],
      ['that is closed with a reason', (tunnels: FakeAws['tunnels']) => tunnels.closeAll(1011, 'no way X-Amz-Date=1')],
      ['that is cut', (tunnels: FakeAws['tunnels']) => tunnels.cut()],
    ])('%s leaves a command unknown, and the next one has another', async (_how, breakIt) => {
      const target = await locate(hostsOf());
      const { end } = await begin(target);
      breakIt(aws.tunnels);
      const result = await end;
      expect(result).toMatchObject({ kind: 'unknown' });
      expectNoSecrets(aws, result);
      expect(await run(target, asleep)).toMatchObject({ code: 1 });
    });

    it('that nothing comes out of any more is given up by itself, long before the deadline of a command', async () => {
      const target = await locate(hostsOf());
      const { end } = await begin(target, 600_000);
      await instance.ssh.machine.freeze();
      // Four keepalives later; the test would be over long before the command.
      expect(await end).toMatchObject({ kind: 'unknown' });
      await instance.ssh.machine.thaw();
    });
  });
});
