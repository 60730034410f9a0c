import { Agent } from 'node:https';

import {
  DescribeInstanceConnectEndpointsCommand,
  DescribeInstancesCommand,
  EC2Client,
  GetConsoleOutputCommand,
  paginateDescribeInstances,
} from '@aws-sdk/client-ec2';
import {
  EC2InstanceConnectClient,
  EC2InstanceStateInvalidException,
  SendSSHPublicKeyCommand,
  ThrottlingException,
} from '@aws-sdk/client-ec2-instance-connect';
import { describe, expect, it, onTestFinished } from 'vitest';

import { FakeAws, type FakeAwsOptions } from '../../../support/aws/fake-aws.ts';
import { withBackend } from '../../../support/backend.ts';

const PUBLIC_KEY = `ssh-ed25519 ${Buffer.from('\0\0\0\x0bssh-ed25519\0\0\0 '.padEnd(51, 'x')).toString('base64')}`;

await withBackend('machine', () => {
  describe('the EC2 API of FakeAws', () => {
    it('tells AWS its own SDK of instances, page by page', async () => {
      const { aws, ec2 } = await start({ pageSize: 2 });
      const [one] = await Promise.all([
        aws.launch({ tags: { workspace: 'one', 'odd <&> name': '*' }, ipv6: '2600:1f10::1' }),
        aws.launch({ tags: { workspace: 'two' } }),
        aws.launch({ tags: { workspace: 'three' } }),
      ]);
      const pages = [];
      for await (const { Reservations = [] } of paginateDescribeInstances({ client: ec2 }, {})) {
        pages.push(Reservations.flatMap(({ Instances = [] }) => Instances.map(({ InstanceId }) => InstanceId)));
      }
      expect(pages.map(({ length }) => length)).toEqual([2, 1]);
      expect(new Set(pages.flat())).toEqual(new Set(aws.instances.map(({ id }) => id)));

      const byTag = { Name: 'tag:odd <&> name', Values: ['\\*'] };
      const { Reservations } = await ec2.send(new DescribeInstancesCommand({ Filters: [byTag] }));
      expect(Reservations).toMatchObject([
        {
          Instances: [
            {
              InstanceId: one.id,
              State: { Name: 'running' },
              PrivateIpAddress: one.privateIp,
              Ipv6Address: '2600:1f10::1',
              VpcId: 'vpc-1',
              SubnetId: 'subnet-1',
              LaunchTime: one.launchedAt,
              Tags: [
                { Key: 'workspace', Value: 'one' },
                { Key: 'odd <&> name', Value: '*' },
              ],
            },
          ],
        },
      ]);
      const found = async (...Values: string[]) => {
        const command = new DescribeInstancesCommand({ Filters: [{ Name: 'tag:workspace', Values }] });
        return (await ec2.send(command)).Reservations?.length;
      };
      expect(await found('t*')).toBe(2);
      expect(await found('one', 'nobody')).toBe(1);
      expect(await found('t\\*')).toBe(0);
    });

    it('tells of a stopped instance, a terminated one, and one it knows no more', async () => {
      const { aws, ec2 } = await start();
      const instance = await aws.launch();
      const described = async () => {
        const command = new DescribeInstancesCommand({ InstanceIds: [instance.id] });
        return (await ec2.send(command)).Reservations?.[0]?.Instances?.[0];
      };
      await instance.stop();
      expect(await described()).toMatchObject({ State: { Name: 'stopped' }, PrivateIpAddress: instance.privateIp });
      await instance.terminate();
      expect(await described()).toMatchObject({ State: { Name: 'terminated' } });
      expect(await described()).not.toHaveProperty('PrivateIpAddress');
      const byAddress = [{ Name: 'private-ip-address', Values: [instance.privateIp] }];
      expect((await ec2.send(new DescribeInstancesCommand({ Filters: byAddress }))).Reservations).toEqual([]);
      aws.forget(instance);
      await expect(described()).rejects.toMatchObject({ name: 'InvalidInstanceID.NotFound' });
    });

    it('tells of endpoints in every state', async () => {
      const { aws, ec2 } = await start();
      aws.createEndpoint({ vpcId: 'vpc-2', state: 'update-failed', fipsDnsName: 'fips.example' });
      const command = new DescribeInstanceConnectEndpointsCommand({
        Filters: [{ Name: 'vpc-id', Values: ['vpc-2'] }],
        MaxResults: 50,
      });
      const { InstanceConnectEndpoints } = await ec2.send(command);
      expect(InstanceConnectEndpoints).toMatchObject([
        {
          InstanceConnectEndpointId: aws.endpoints[1]?.id,
          State: 'update-failed',
          DnsName: new URL(aws.url).host,
          FipsDnsName: 'fips.example',
          IpAddressType: 'ipv4',
        },
      ]);
    });

    it('shows the host keys on the console, the latest output only where the instance has it', async () => {
      const { aws, ec2 } = await start();
      const instance = await aws.launch();
      const output = async (Latest: boolean) => {
        const { Output = '' } = await ec2.send(new GetConsoleOutputCommand({ InstanceId: instance.id, Latest }));
        return Buffer.from(Output, 'base64').toString();
      };
      for (const { line } of instance.ssh.hostKeys) expect(await output(true)).toContain(line);
      instance.isNitro = false;
      await expect(output(true)).rejects.toMatchObject({ name: 'UnsupportedOperation' });
      instance.consoleOutput = '';
      expect(await output(false)).toBe('');
    });
  });

  describe('the Instance Connect API of FakeAws', () => {
    it('takes a key for an instance that runs', async () => {
      const { aws, push } = await start();
      const instance = await aws.launch();
      expect(await push(instance.id)).toMatchObject({ Success: true });
      await expect(push('i-00000000')).rejects.toMatchObject({ name: 'EC2InstanceNotFoundException' });
      await expect(push(instance.id, { SSHPublicKey: PUBLIC_KEY.slice(0, 79) })).rejects.toMatchObject({
        name: 'InvalidArgsException',
      });
      await expect(push(instance.id, { InstanceOSUser: '../root' })).rejects.toMatchObject({
        name: 'InvalidArgsException',
      });
      instance.state = 'stopping';
      await expect(push(instance.id)).rejects.toBeInstanceOf(EC2InstanceStateInvalidException);
    });
  });

  describe('the APIs of FakeAws', () => {
    it('fail as they are told to, each in its own words', async () => {
      const { aws, ec2, push } = await start();
      const describeAll = () => ec2.send(new DescribeInstancesCommand({}));
      aws.faults.throttle('DescribeInstances', 1);
      await expect(describeAll()).rejects.toMatchObject({ name: 'RequestLimitExceeded' });
      await describeAll();
      aws.faults.deny('DescribeInstances');
      await expect(describeAll()).rejects.toMatchObject({ name: 'UnauthorizedOperation' });
      aws.faults.throttle('SendSSHPublicKey');
      await expect(push('i-00000000')).rejects.toBeInstanceOf(ThrottlingException);
      aws.faults.deny('SendSSHPublicKey');
      await expect(push('i-00000000')).rejects.toMatchObject({ name: 'AccessDeniedException' });
      aws.faults.hang('DescribeInstances');
      const command = new DescribeInstancesCommand({});
      await expect(ec2.send(command, { abortSignal: AbortSignal.timeout(50) })).rejects.toMatchObject({
        name: 'AbortError',
      });
      aws.faults.heal();
      await describeAll();
      expect(aws.count('DescribeInstances')).toBe(5);
    });

    it('take only credentials that are good', async () => {
      const { aws, ec2, push, use } = await start();
      const describeAll = () => ec2.send(new DescribeInstancesCommand({}));
      aws.expireCredentials();
      await expect(describeAll()).rejects.toMatchObject({ name: 'RequestExpired' });
      await expect(push('i-00000000')).rejects.toMatchObject({ name: 'ExpiredTokenException' });
      use(aws.issueCredentials());
      await describeAll();
      use({ ...aws.credentials, sessionToken: 'other' });
      await expect(describeAll()).rejects.toMatchObject({ name: 'AuthFailure' });
      await expect(push('i-00000000')).rejects.toMatchObject({ name: 'UnrecognizedClientException' });
      use({ ...aws.credentials, secretAccessKey: 'other' });
      await expect(describeAll()).rejects.toMatchObject({ name: 'SignatureDoesNotMatch' });
      await expect(push('i-00000000')).rejects.toMatchObject({ name: 'InvalidSignatureException' });
      expect(aws.calls).toEqual(['DescribeInstances']);
    });

    it('have a clock of their own, which the SDK finds out', async () => {
      const { aws, ec2 } = await start({}, 2);
      aws.clockSkewMs = 3_600_000;
      await ec2.send(new DescribeInstancesCommand({}));
      expect(ec2.config.systemClockOffset).toBeGreaterThan(3_590_000);
    });
  });
});

async function start(options: FakeAwsOptions = {}, maxAttempts = 1) {
  const aws = await FakeAws.start(options);
  onTestFinished(() => aws.close());
  let credentials = aws.credentials;
  const agent = new Agent({ ca: aws.ca });
  const settings = {
    region: aws.region,
    endpoint: aws.url,
    maxAttempts,
    // A new expiration each time has the SDK ask each time.
    credentials: async () => ({ ...credentials, expiration: new Date() }),
    requestHandler: { httpsAgent: agent },
  };
  const ec2 = new EC2Client(settings);
  const connect = new EC2InstanceConnectClient(settings);
  onTestFinished(() => {
    ec2.destroy();
    connect.destroy();
  });
  return {
    aws,
    ec2,
    use: (next: typeof credentials) => {
      credentials = next;
    },
    push: (InstanceId: string, input: { InstanceOSUser?: string; SSHPublicKey?: string } = {}) =>
      connect.send(
        new SendSSHPublicKeyCommand({ InstanceId, InstanceOSUser: 'ubuntu', SSHPublicKey: PUBLIC_KEY, ...input }),
      ),
  };
}
