import { createHash, createHmac, type Hash, type Hmac } from 'node:crypto';

/** What an Instance Connect endpoint is asked to open. */
export interface TunnelRequest {
  /** DNS name of the endpoint, as DescribeInstanceConnectEndpoints has it; with a port where that is not 443. */
  readonly dnsName: string;
  readonly endpointId: string;
  readonly remotePort: number;
  /** Private IPv4 or IPv6 address of the instance. */
  readonly address: string;
  /** Left out: AWS takes 3600, and refuses it where IAM allows less. */
  readonly maxTunnelSeconds?: number | undefined;
}

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface SigningFacts {
  readonly region: string;
  readonly credentials: AwsCredentials;
  /** By the clock of AWS. */
  readonly date: Date;
}

/** AWS takes no longer one, and it is used at once. */
const EXPIRES_SECONDS = 60;

/**
 * The address of the WebSocket that is the tunnel. Whoever has it can open the tunnel for a minute: it is made right before
 * it is used, kept nowhere and printed nowhere.
 */
export async function presignTunnel(
  tunnel: TunnelRequest,
  { region, credentials, date }: SigningFacts,
): Promise<string> {
  const [{ SignatureV4 }, { HttpRequest }] = await Promise.all([
    import('@smithy/signature-v4'),
    import('@smithy/protocol-http'),
  ]);
  const signer = new SignatureV4({
    service: 'ec2-instance-connect',
    region,
    credentials,
    sha256: Sha256,
    applyChecksum: false,
  });
  const { dnsName, endpointId, remotePort, address, maxTunnelSeconds } = tunnel;
  const request = new HttpRequest({
    method: 'GET',
    protocol: 'wss:',
    hostname: dnsName,
    path: '/openTunnel',
    query: {
      instanceConnectEndpointId: endpointId,
      remotePort: String(remotePort),
      // IPv6 goes by the same name.
      privateIpAddress: address,
      ...(maxTunnelSeconds === undefined ? {} : { maxTunnelDuration: String(maxTunnelSeconds) }),
    },
    headers: { host: dnsName },
  });
  const signed = await signer.presign(request, { expiresIn: EXPIRES_SECONDS, signingDate: date });
  const query = Object.entries(signed.query ?? {}).map(
    ([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(String(value))}`,
  );
  return `wss://${dnsName}/openTunnel?${query.join('&')}`;
}

/** The hash that smithy wants handed in, with a secret as HMAC. */
class Sha256 {
  readonly #hash: Hash | Hmac;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', bytesOf(secret));
  }

  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(bytesOf(data));
  }

  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }

  /** smithy's interface has it; nothing here hashes twice with one object. */
  reset(): void {
    throw new Error('a hash is used once');
  }
}

function bytesOf(data: string | ArrayBuffer | ArrayBufferView): Buffer {
  if (typeof data === 'string') return Buffer.from(data);
  if (ArrayBuffer.isView(data)) return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return Buffer.from(data);
}
