import { expect, test } from 'vitest';

import { presignTunnel } from '../../../../src/adapters/aws/presign-tunnel.ts';

const credentials = { accessKeyId: 'access_key', secretAccessKey: 'secret_key' };
const facts = { region: 'us-west-2', credentials, date: new Date('2020-01-01T01:01:01Z') };

test("signs as AWS's own command line does: the vector of its test", async () => {
  const dnsName = 'eice-123.ec2-instance-connect-endpoint.us-west-2.amazonaws.com';
  const url = new URL(
    await presignTunnel(
      { dnsName, endpointId: 'eice-123', remotePort: 22, address: '10.0.0.0', maxTunnelSeconds: 1 },
      facts,
    ),
  );
  expect(url.protocol).toBe('wss:');
  expect(url.host).toBe(dnsName);
  expect(url.pathname).toBe('/openTunnel');
  expect(Object.fromEntries(url.searchParams)).toEqual({
    instanceConnectEndpointId: 'eice-123',
    remotePort: '22',
    privateIpAddress: '10.0.0.0',
    maxTunnelDuration: '1',
    'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
    'X-Amz-Credential': 'access_key/20200101/us-west-2/ec2-instance-connect/aws4_request',
    'X-Amz-Date': '20200101T010101Z',
    'X-Amz-Expires': '60',
    'X-Amz-SignedHeaders': 'host',
    'X-Amz-Signature': '3a56740422a5b9aebd22d860b7a30c729e459a6f71a83bc0de3a2b44b7353f28',
  });
});

test('signs IPv6 and a session token the same way botocore does', async () => {
  const url = new URL(
    await presignTunnel(
      { dnsName: 'eice-123.x', endpointId: 'eice-123', remotePort: 22, address: '2600:1f10::1' },
      { ...facts, credentials: { ...credentials, sessionToken: 'tok+/=' } },
    ),
  );
  expect(url.searchParams.get('privateIpAddress')).toBe('2600:1f10::1');
  expect(url.searchParams.get('X-Amz-Security-Token')).toBe('tok+/=');
  expect(url.searchParams.has('maxTunnelDuration')).toBe(false);
  expect(url.searchParams.get('X-Amz-Signature')).toBe(
    'd69316bc95cbf4d715f06b0432b184d24cab734951b683303c5af35de43dd3e6',
  );
});
