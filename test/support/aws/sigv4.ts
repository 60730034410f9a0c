import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

// Written from AWS's description of Signature Version 4 and from nothing that plugset signs with, so that a mistake there
// finds no second one here that hides it.

export interface TestCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  /** Set once its hour is over. */
  isExpired?: boolean;
}

export interface ReceivedRequest {
  readonly method: string;
  /** Path and query as they came over the wire. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body?: Buffer;
}

export interface Verifier {
  readonly region: string;
  /** Milliseconds since 1970, by the clock of AWS. */
  now(): number;
  credentialsOf(accessKeyId: string): TestCredentials | undefined;
}

export type SignatureFault = 'missing' | 'scope' | 'key' | 'token' | 'expired' | 'old' | 'early' | 'signature';

export class SignatureError extends Error {
  override readonly name = 'SignatureError';
  readonly fault: SignatureFault;

  constructor(fault: SignatureFault, message: string) {
    super(message);
    this.fault = fault;
  }
}

const ALGORITHM = 'AWS4-HMAC-SHA256';
const SKEW_MS = 300_000;

/** Checks the `Authorization` header of an API call and answers the service it was signed for. */
export function verifyHeaders(request: ReceivedRequest, verifier: Verifier): string {
  const { headers, url, method, body = Buffer.alloc(0) } = request;
  const form = /^(\S+) Credential=(\S+), ?SignedHeaders=(\S+), ?Signature=([0-9a-f]{64})$/;
  const [, algorithm, credential = '', signedHeaders = '', signature = ''] =
    form.exec(headers.authorization ?? '') ?? [];
  if (algorithm !== ALGORITHM) throw new SignatureError('missing', 'no signature of version 4');
  const names = signedHeaders.split(';');
  const lacking = ['host', ...Object.keys(headers).filter((name) => name.startsWith('x-amz-'))].filter(
    (name) => !names.includes(name),
  );
  if (lacking.length > 0) throw new SignatureError('signature', `${lacking.join()} must be signed`);
  const hash = sha256(body);
  if ((headers['x-amz-content-sha256'] ?? hash) !== hash) throw new SignatureError('signature', 'that is another body');
  const date = String(headers['x-amz-date']);
  const { secret, scope, service } = secretOf(credential, headers['x-amz-security-token'], date, verifier);
  checkDate(date, SKEW_MS, verifier);
  const [path = '/', query = ''] = url.split('?');
  const canonical = [method, path, canonicalQuery(query), ...canonicalHeaders(names, headers), hash].join('\n');
  compare(signature, signatureOf(canonical, date, scope, secret), canonical);
  return service;
}

/** Checks a presigned address, as the upgrade of a WebSocket has it, and answers the service it was signed for. */
export function verifyPresigned(request: ReceivedRequest, verifier: Verifier): string {
  const [path = '/', query = ''] = request.url.split('?');
  const params = new Map(pairsOf(query));
  if (params.get('X-Amz-Algorithm') !== ALGORITHM) throw new SignatureError('missing', 'no signature of version 4');
  const date = params.get('X-Amz-Date') ?? '';
  const credential = params.get('X-Amz-Credential') ?? '';
  const { secret, scope, service } = secretOf(credential, params.get('X-Amz-Security-Token'), date, verifier);
  const names = (params.get('X-Amz-SignedHeaders') ?? '').split(';');
  if (!names.includes('host')) throw new SignatureError('signature', 'host must be signed');
  // Clients that leave it out get in.
  const expiresSeconds = Number(params.get('X-Amz-Expires') ?? 60);
  if (!(expiresSeconds >= 1 && expiresSeconds <= 60)) throw new SignatureError('signature', 'X-Amz-Expires is 1 to 60');
  checkDate(date, expiresSeconds * 1000, verifier);
  const unsigned = query.split('&').filter((pair) => !pair.startsWith('X-Amz-Signature='));
  const headers = canonicalHeaders(names, request.headers);
  const canonical = [request.method, path, canonicalQuery(unsigned.join('&')), ...headers, sha256('')].join('\n');
  compare(params.get('X-Amz-Signature') ?? '', signatureOf(canonical, date, scope, secret), canonical);
  return service;
}

function secretOf(credential: string, token: unknown, date: string, { region, credentialsOf }: Verifier) {
  const [accessKeyId = '', day = '', signedRegion, service = '', end] = credential.split('/');
  if (end !== 'aws4_request' || signedRegion !== region || day !== date.slice(0, 8)) {
    throw new SignatureError(
      'scope',
      `Credential should be scoped to a valid region (${region}) and to the day of the request`,
    );
  }
  const known = credentialsOf(accessKeyId);
  if (known === undefined) throw new SignatureError('key', 'The security token included in the request is invalid.');
  if (known.sessionToken !== token)
    throw new SignatureError('token', 'The security token included in the request is invalid.');
  if (known.isExpired === true) {
    throw new SignatureError('expired', 'The security token included in the request is expired');
  }
  return { secret: known.secretAccessKey, scope: [day, region, service, end].join('/'), service };
}

function checkDate(date: string, validMs: number, { now }: Verifier): void {
  const signed = Date.parse(date.replace(/^(....)(..)(..T..)(..)(..Z)$/, '$1-$2-$3:$4:$5'));
  if (Number.isNaN(signed)) throw new SignatureError('missing', 'no date in X-Amz-Date');
  const age = now() - signed;
  const by = new Date(now()).toISOString();
  if (age > validMs) throw new SignatureError('old', `Signature expired: ${date} is now earlier than ${by}`);
  if (age < -SKEW_MS) throw new SignatureError('early', `Signature not yet current: ${date} is still later than ${by}`);
}

function signatureOf(canonical: string, date: string, scope: string, secret: string): string {
  let key: string | Buffer = `AWS4${secret}`;
  for (const part of scope.split('/')) key = createHmac('sha256', key).update(part).digest();
  return createHmac('sha256', key)
    .update([ALGORITHM, date, scope, sha256(canonical)].join('\n'))
    .digest('hex');
}

function compare(sent: string, right: string, canonical: string): void {
  const [a, b] = [Buffer.from(sent), Buffer.from(right)];
  if (a.length === b.length && timingSafeEqual(a, b)) return;
  // AWS quotes what it signed, the token included.
  throw new SignatureError(
    'signature',
    `The request signature we calculated does not match the signature you provided.\n\nThe Canonical String for this request should have been\n'${canonical}'`,
  );
}

function canonicalHeaders(names: readonly string[], headers: IncomingHttpHeaders): readonly string[] {
  const lines = names.map(
    (name) =>
      `${name}:${String(headers[name] ?? '')
        .trim()
        .replaceAll(/ +/g, ' ')}\n`,
  );
  return [lines.join(''), names.join(';')];
}

function canonicalQuery(query: string): string {
  const encoded = pairsOf(query).map(([name, value]) => `${encode(name)}=${encode(value)}`);
  return encoded.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))).join('&');
}

function pairsOf(query: string): readonly (readonly [string, string])[] {
  return query
    .split('&')
    .filter((pair) => pair !== '')
    .map((pair) => {
      const [name = '', ...value] = pair.split('=');
      return [decodeURIComponent(name), decodeURIComponent(value.join('='))] as const;
    });
}

/** Everything but what RFC 3986 calls unreserved. */
function encode(text: string): string {
  return encodeURIComponent(text).replaceAll(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

function sha256(data: string | Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}
