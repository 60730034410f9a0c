import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { access, readFile, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { describe, expect, it, onTestFinished } from 'vitest';
import { WebSocket } from 'ws';

import { openTunnel } from '../../../../src/adapters/aws/open-tunnel.ts';
import { presignTunnel, type TunnelRequest } from '../../../../src/adapters/aws/presign-tunnel.ts';
import { SystemClock } from '../../../../src/adapters/system/clock.ts';
import type { FakeInstance } from '../../../support/aws/fake-instance.ts';
import { FakeAws, type FakeAwsOptions } from '../../../support/aws/fake-aws.ts';
import { withBackend } from '../../../support/backend.ts';
import { eventually } from '../../../support/eventually.ts';
import { tempDir } from '../../../support/temp-dir.ts';

const run = promisify(execFile);
const PROXY_COMMAND = fileURLToPath(new URL('../../../support/aws/proxy-command.mjs', import.meta.url));

await withBackend('machine', () => {
  describe('an instance of FakeAws', () => {
    it('lets OpenSSH in through the tunnel, with a key that was pushed, while its minute lasts', async () => {
      const { aws, instance } = await start({ directories: { '/configs': 1000 } });
      await push(instance);
      expect(await ssh(aws, instance, 'id -un; sudo -n id -un; echo kept >/configs/file')).toBe('ubuntu\nroot\n');
      expect(await readFile(`${instance.root}/configs/file`, 'utf8')).toBe('kept\n');
      await instance.expireKeys();
      await expect(ssh(aws, instance, 'true')).rejects.toMatchObject({ code: 255 });
      await instance.acceptKey('ubuntu', await readFile(`${instance.ssh.clientKeyFile}.pub`, 'utf8'), Date.now());
      await expect(ssh(aws, instance, 'true')).rejects.toMatchObject({ code: 255 });
      instance.keysToLose = 1;
      await push(instance);
      await expect(ssh(aws, instance, 'true')).rejects.toMatchObject({ code: 255 });
      await push(instance);
      await ssh(aws, instance, 'true');
    });

    it('carries megabytes, in frames however small, through rekeys', async () => {
      const { aws, instance } = await start({ sshdConfig: ['RekeyLimit 8M'] });
      await push(instance);
      aws.tunnels.isFragmenting = true;
      const command = 'head -c 20000000 /dev/urandom | tee sent';
      const received = await ssh(aws, instance, command);
      const sent = await readFile(`${instance.root}/home/ubuntu/sent`);
      expect(Buffer.from(received, 'latin1').equals(sent)).toBe(true);
    });

    it('keeps its disk when it is stopped and started, and is blank under another key when it is replaced', async () => {
      const { aws, instance } = await start({ tags: { workspace: 'one' } });
      await push(instance);
      await ssh(aws, instance, 'touch kept');
      await instance.stop();
      expect(await closing(await open(aws, instance))).toEqual({ code: 1011, reason: 'Unable to connect to target' });
      await instance.start();
      expect(await ssh(aws, instance, 'ls')).toBe('kept\n');

      const next = await aws.replace(instance);
      expect(next).toMatchObject({ tags: { workspace: 'one' }, privateIp: instance.privateIp });
      expect(next.id).not.toBe(instance.id);
      expect(next.ssh.hostKeys).not.toEqual(instance.ssh.hostKeys);
      await push(next);
      expect(await ssh(aws, next, 'ls')).toBe('');
      await expect(access(instance.root)).rejects.toMatchObject({ code: 'ENOENT' });
    });
  });

  describe('the tunnels of FakeAws', () => {
    it('are refused for what AWS refuses', async () => {
      const { aws, instance } = await start();
      const refused = (own: Partial<TunnelRequest>) => refusal(aws, instance, own);
      expect(await refused({ remotePort: 2222 })).toMatchObject({ status: 400, ErrorCode: 'InvalidParameter' });
      expect(await refused({ address: '10.9.9.9' })).toMatchObject({ status: 400, ErrorCode: 'InvalidParameter' });
      expect(await refused({ endpointId: 'eice-0' })).toMatchObject({ status: 404, ErrorCode: 'ResourceNotFound' });
      expect(await refused({ maxTunnelSeconds: 3601 })).toMatchObject({ ErrorCode: 'InvalidParameter' });
      aws.tunnels.durationCap = 600;
      expect(await refused({})).toMatchObject({ status: 403, ErrorCode: 'AccessDenied' });
      await open(aws, instance, { maxTunnelSeconds: 600 });
      aws.faults.throttle('OpenTunnel', 1);
      expect(await refused({ maxTunnelSeconds: 1 })).toMatchObject({ status: 429, ErrorCode: 'ThrottlingException' });
      aws.faults.deny('OpenTunnel');
      expect(await refused({ maxTunnelSeconds: 1 })).toMatchObject({ status: 403, ErrorCode: 'AccessDenied' });
      aws.faults.heal();
      aws.clockSkewMs = 61_000;
      expect(await refused({ maxTunnelSeconds: 1 })).toMatchObject({ status: 403, ErrorCode: 'InvalidSignature' });
      aws.clockSkewMs = 0;
      aws.expireCredentials();
      expect(await refused({ maxTunnelSeconds: 1 })).toMatchObject({ status: 403, ErrorCode: 'ExpiredToken' });
      expect(aws.tunnels.opened).toBe(1);
    });

    it('are 20 for an endpoint, and no more', async () => {
      // By itself sshd drops some when more than 10 wait to say who they are.
      const { aws, instance } = await start({ sshdConfig: ['MaxStartups 100'] });
      const [endpoint] = aws.endpoints;
      if (endpoint === undefined) throw new Error('no endpoint');
      const [first] = await Promise.all(Array.from({ length: 20 }, () => open(aws, instance)));
      expect(await refusal(aws, instance)).toMatchObject({ status: 429, ErrorCode: 'ConnectionLimitExceeded' });
      const other = aws.createEndpoint();
      await open(aws, instance, { endpointId: other.id });
      first?.close();
      await eventually(() => expect(aws.tunnels.openAt(endpoint)).toBe(19));
      await open(aws, instance);
      expect(aws.tunnels.peakAt(endpoint)).toBe(20);
    });

    it('lead to an instance by its IPv6 address too', async () => {
      const { aws, instance } = await start({ ipv6: '2600:1f10::1' });
      const tunnel = await open(aws, instance, { address: '2600:1f10::1' });
      const [banner] = (await once(tunnel, 'message')) as [Buffer];
      expect(banner.toString()).toMatch(/^SSH-2\.0/);
    });

    it('end when their time is over, when the instance goes, and when they are cut', async () => {
      const { aws, instance } = await start({}, { tunnelSecondMs: 20 });
      const reason = 'Maximum tunnel duration reached';
      expect(await closing(await open(aws, instance, { maxTunnelSeconds: 5 }))).toEqual({ code: 1000, reason });
      const cut = closing(await open(aws, instance));
      aws.tunnels.cut();
      expect(await cut).toMatchObject({ code: 1006 });
      const closed = closing(await open(aws, instance));
      aws.tunnels.closeAll(1001, 'going away');
      expect(await closed).toEqual({ code: 1001, reason: 'going away' });
      const gone = closing(await open(aws, instance));
      await instance.terminate();
      expect((await gone).code).not.toBe(1006);
    });

    it('end at once for an instance of another network, or when told so', async () => {
      const { aws, instance } = await start({ vpcId: 'vpc-2' });
      expect(await closing(await open(aws, instance))).toMatchObject({ code: 1011 });
      aws.tunnels.closeAtOnce = { code: 1008, reason: 'policy' };
      expect(await closing(await open(aws, instance))).toEqual({ code: 1008, reason: 'policy' });
    });

    it('take binary messages of 65,000 bytes and nothing else', async () => {
      const { aws, instance } = await start();
      const tooLarge = await open(aws, instance);
      tooLarge.send(Buffer.alloc(65_000));
      tooLarge.send(Buffer.alloc(65_001));
      expect(await closing(tooLarge)).toMatchObject({ code: 1009 });
      const text = await open(aws, instance);
      text.send('hello');
      expect(await closing(text)).toMatchObject({ code: 1003 });
      const told = await open(aws, instance);
      const message = firstText(told);
      aws.tunnels.sendText();
      expect(await message).toBe('not a tunnel');
    });

    it('swallow everything while they are frozen, pings and openings too', async () => {
      const { aws, instance } = await start();
      const tunnel = await open(aws, instance);
      await once(tunnel, 'message');
      aws.tunnels.freeze();
      const answered: string[] = [];
      tunnel.on('pong', () => answered.push('pong'));
      tunnel.ping();
      const opening = open(aws, instance);
      opening.then(
        () => answered.push('opened'),
        () => answered.push('refused'),
      );
      await eventually(() => expect(aws.count('OpenTunnel')).toBe(2));
      expect(answered).toEqual([]);
      aws.tunnels.thaw();
      await eventually(() => expect(answered).toEqual(['pong']));
    });

    it('answer in one packet with the first bytes, when told so', async () => {
      const { aws, instance } = await start();
      aws.tunnels.isEager = true;
      const { host, hostname, port, pathname, search } = new URL(await presign(aws, instance, {}));
      const socket = connect({ host: hostname, port: Number(port), ca: aws.ca });
      onTestFinished(() => void socket.destroy());
      const headers = ['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'];
      const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==';
      socket.write([`GET ${pathname}${search} HTTP/1.1`, `Host: ${host}`, ...headers, key, '', ''].join('\r\n'));
      const [first] = (await once(socket, 'data')) as [Buffer];
      expect(first.toString()).toMatch(/^HTTP\/1\.1 101 [^]*SSH-2\.0/);

      const options = {
        url: await presign(aws, instance, {}),
        description: 'it',
        clock: new SystemClock(),
        ca: aws.ca,
      };
      const stream = await openTunnel(options, new AbortController().signal);
      onTestFinished(() => void stream.destroy());
      await new Promise((resolve) => setImmediate(resolve));
      const [banner] = (await once(stream, 'data')) as [Buffer];
      expect(banner.toString()).toMatch(/^SSH-2\.0/);
    });

    it('are as slow as the line to the instance, and as brittle', async () => {
      const { aws, instance } = await start();
      await push(instance);
      instance.line.delay(50, 'both');
      expect(await ssh(aws, instance, 'echo slow')).toBe('slow\n');
      instance.line.delay(0);
      instance.line.cutAfter(1_000_000);
      await expect(ssh(aws, instance, 'cat /dev/zero')).rejects.toMatchObject({ code: 255 });
    });

    it('leave nothing behind', async () => {
      const { aws, instance } = await start();
      const closed = closing(await open(aws, instance));
      const opening = refusal(aws, instance).catch((error: unknown) => error);
      await aws.close();
      await closed;
      await opening;
      for (const path of [instance.root, aws.caFile, instance.ssh.clientKeyFile])
        await expect(access(path)).rejects.toMatchObject({ code: 'ENOENT' });
      await expect(fetch(aws.url)).rejects.toThrow(TypeError);
    });
  });
});

async function start(launch = {}, options: FakeAwsOptions = {}): Promise<{ aws: FakeAws; instance: FakeInstance }> {
  const aws = await FakeAws.start(options);
  onTestFinished(() => aws.close());
  return { aws, instance: await aws.launch(launch) };
}

async function push(instance: FakeInstance): Promise<void> {
  const key = await readFile(`${instance.ssh.clientKeyFile}.pub`, 'utf8');
  await instance.acceptKey('ubuntu', key, Date.now() + 60_000);
}

async function presign(aws: FakeAws, instance: FakeInstance, own: Partial<TunnelRequest>): Promise<string> {
  const [endpoint] = aws.endpoints;
  if (endpoint === undefined) throw new Error('no endpoint');
  const { id: endpointId, dnsName } = endpoint;
  const request = { dnsName, endpointId, remotePort: 22, address: instance.privateIp, ...own };
  return presignTunnel(request, { region: aws.region, credentials: aws.credentials, date: new Date() });
}

async function open(aws: FakeAws, instance: FakeInstance, own: Partial<TunnelRequest> = {}): Promise<WebSocket> {
  const tunnel = await dial(aws, instance, own);
  await once(tunnel, 'open');
  return tunnel;
}

async function dial(aws: FakeAws, instance: FakeInstance, own: Partial<TunnelRequest>): Promise<WebSocket> {
  const tunnel = new WebSocket(await presign(aws, instance, own), { ca: aws.ca, perMessageDeflate: false });
  // Whoever waits for something else than an error is told of one too; this is for the time after.
  tunnel.on('error', () => undefined);
  onTestFinished(() => tunnel.terminate());
  return tunnel;
}

async function closing(tunnel: WebSocket): Promise<{ code: number; reason: string }> {
  const [code, reason] = (await once(tunnel, 'close')) as [number, Buffer];
  return { code, reason: reason.toString() };
}

async function refusal(aws: FakeAws, instance: FakeInstance, own: Partial<TunnelRequest> = {}): Promise<object> {
  const tunnel = await dial(aws, instance, own);
  const [, response] = (await once(tunnel, 'unexpected-response')) as [unknown, IncomingMessage];
  expect(response.headers['x-amzn-requestid']).toMatch(/^[0-9a-f-]{36}$/);
  const body = (await response.toArray()).join('');
  return { status: response.statusCode, ...(JSON.parse(body) as object) };
}

async function firstText(tunnel: WebSocket): Promise<string> {
  return new Promise((resolve) => {
    tunnel.on('message', (data: Buffer, isBinary) => {
      if (!isBinary) resolve(data.toString());
    });
  });
}

async function ssh(aws: FakeAws, instance: FakeInstance, command: string): Promise<string> {
  const known = join(await tempDir(), 'known_hosts');
  await writeFile(known, instance.ssh.hostKeys.map(({ line }) => `${instance.id} ${line}\n`).join(''));
  const url = await presign(aws, instance, {});
  const options = [
    ['UserKnownHostsFile', known],
    ['GlobalKnownHostsFile', 'none'],
    ['StrictHostKeyChecking', 'yes'],
    ['IdentitiesOnly', 'yes'],
    ['BatchMode', 'yes'],
    // ssh hands the line to a shell, and takes `%` for itself.
    ['ProxyCommand', `${process.execPath} ${PROXY_COMMAND} '${url.replaceAll('%', '%%')}'`],
  ].flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  const argv = ['-F', 'none', '-i', instance.ssh.clientKeyFile, ...options, `ubuntu@${instance.id}`, command];
  const env = { ...process.env, NODE_EXTRA_CA_CERTS: aws.caFile };
  return (await run('ssh', argv, { encoding: 'latin1', maxBuffer: 2 ** 26, env })).stdout;
}
