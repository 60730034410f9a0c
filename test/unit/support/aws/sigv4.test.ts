import { describe, expect, it } from 'vitest';

import { SignatureError, verifyHeaders, verifyPresigned } from '../../../support/aws/sigv4.ts';

const credentials = { accessKeyId: 'access_key', secretAccessKey: 'secret_key' };
const SIGNED_AT = Date.UTC(2020, 0, 1, 1, 1, 1);
const HOST_A = 'eice-123.ec2-instance-connect-endpoint.us-west-2.amazonaws.com';

/** AWS's own vector: aws/aws-cli, tests/functional/ec2instanceconnect/test_opentunnel.py. */
const A = presigned(
  { maxTunnelDuration: '1', privateIpAddress: '10.0.0.0' },
  '3a56740422a5b9aebd22d860b7a30c729e459a6f71a83bc0de3a2b44b7353f28',
);
/** What botocore signs for an IPv6 address with a session token. */
const B = presigned(
  { privateIpAddress: '2600:1f10::1', 'X-Amz-Security-Token': 'tok+/=' },
  'd69316bc95cbf4d715f06b0432b184d24cab734951b683303c5af35de43dd3e6',
);

describe('verifyPresigned', () => {
  it('takes what AWS itself signs', () => {
    expect(check(A, HOST_A)).toBe('ec2-instance-connect');
    expect(check(B, 'eice-123.x', { sessionToken: 'tok+/=' })).toBe('ec2-instance-connect');
  });

  it.each([
    ['another address', () => check(A.replace('10.0.0.0', '10.0.0.1'), HOST_A), 'signature'],
    ['another host', () => check(A, 'eice-124.x'), 'signature'],
    ['another region', () => check(A.replace('us-west-2', 'us-west-1'), HOST_A), 'scope'],
    ['another secret', () => check(A, HOST_A, { secretAccessKey: 'other' }), 'signature'],
    ['another token', () => check(B, 'eice-123.x', { sessionToken: 'other' }), 'token'],
    ['no token', () => check(A, HOST_A, { sessionToken: 'tok+/=' }), 'token'],
    ['an unknown key', () => check(A, HOST_A, { accessKeyId: 'other' }), 'key'],
    ['a credential that has run out', () => check(A, HOST_A, { isExpired: true }), 'expired'],
    ['no signature', () => check('/openTunnel', HOST_A), 'missing'],
    ['a longer life', () => check(A.replace('Expires=60', 'Expires=61'), HOST_A), 'signature'],
    ['a minute and a second later', () => check(A, HOST_A, {}, SIGNED_AT + 61_000), 'old'],
    ['a clock far ahead', () => check(A, HOST_A, {}, SIGNED_AT - 301_000), 'early'],
  ])('refuses %s', (_title, attempt, fault) => {
    expect(attempt).toThrow(SignatureError);
    expect(attempt).toThrow(expect.objectContaining({ fault }));
  });
});

/** From AWS's description of Signature Version 4, "Examples of the complete Signature Version 4 signing process". */
describe('verifyHeaders', () => {
  const iam = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' };
  const list = {
    method: 'GET',
    url: '/?Action=ListUsers&Version=2010-05-08',
    headers: {
      host: 'iam.amazonaws.com',
      'content-type': 'application/x-www-form-urlencoded; charset=utf-8',
      'x-amz-date': '20150830T123600Z',
      authorization:
        'AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7',
    },
  };
  const verifier = {
    region: 'us-east-1',
    now: () => Date.UTC(2015, 7, 30, 12, 36),
    credentialsOf: () => iam,
  };

  it('takes what AWS signs in its description', () => {
    expect(verifyHeaders(list, verifier)).toBe('iam');
  });

  it.each([
    ['another query', { ...list, url: '/?Action=ListUsers&Version=2010-05-09' }],
    ['a body', { ...list, body: Buffer.from('{}') }],
    ['a header of AWS that is not signed', { ...list, headers: { ...list.headers, 'x-amz-target': 'Other' } }],
    ['the hash of another body', { ...list, headers: { ...list.headers, 'x-amz-content-sha256': 'e3b0' } }],
  ])('refuses %s', (_title, request) => {
    expect(() => verifyHeaders(request, verifier)).toThrow(expect.objectContaining({ fault: 'signature' }));
  });

  it('refuses what is five minutes old', () => {
    const later = { ...verifier, now: () => Date.UTC(2015, 7, 30, 12, 41, 1) };
    expect(() => verifyHeaders(list, later)).toThrow(expect.objectContaining({ fault: 'old' }));
  });
});

function presigned(own: Readonly<Record<string, string>>, signature: string): string {
  const params = new URLSearchParams({
    'X-Amz-Signature': signature,
    ...own,
    instanceConnectEndpointId: 'eice-123',
    remotePort: '22',
    'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
    'X-Amz-Credential': 'access_key/20200101/us-west-2/ec2-instance-connect/aws4_request',
    'X-Amz-Date': '20200101T010101Z',
    'X-Amz-Expires': '60',
    'X-Amz-SignedHeaders': 'host',
  });
  return `/openTunnel?${params.toString()}`;
}

function check(url: string, host: string, own = {}, now = SIGNED_AT): string {
  const known = { ...credentials, ...own };
  const credentialsOf = (id: string) => (id === known.accessKeyId ? known : undefined);
  return verifyPresigned(
    { method: 'GET', url, headers: { host } },
    { region: 'us-west-2', now: () => now, credentialsOf },
  );
}
