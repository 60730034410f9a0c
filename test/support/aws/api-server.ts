import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';

import { AwsApiError, type AwsAction } from './faults.ts';
import { SignatureError, type SignatureFault } from './sigv4.ts';
import { xml, type XmlElements } from './xml.ts';

/** One call of an API, told apart from its protocol. */
export type ApiCall =
  | { readonly protocol: 'ec2'; readonly action: AwsAction; readonly form: URLSearchParams }
  | { readonly protocol: 'json'; readonly action: AwsAction; readonly input: Readonly<Record<string, unknown>> };

export interface ApiServerOptions {
  now(): number;
  /** Throws a `SignatureError`, or answers the service that the request was signed for. */
  verify(request: IncomingMessage, body: Buffer): string;
  /** Throws an `AwsApiError`, or answers what is to be told; `hang`: nothing, ever. */
  answer(call: ApiCall): Promise<XmlElements | 'hang'>;
}

const SERVICES = { ec2: 'ec2', json: 'ec2-instance-connect' } as const;
const XMLNS = 'http://ec2.amazonaws.com/doc/2016-11-15/';

/** EC2 (query) and Instance Connect (JSON 1.1), for the request event of a server. */
export class ApiServer {
  readonly #options: ApiServerOptions;

  constructor(options: ApiServerOptions) {
    this.#options = options;
  }

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await buffer(request);
    const id = randomUUID();
    response.setHeader('x-amzn-requestid', id);
    // The SDK learns from it how far its own clock is off.
    response.setHeader('date', new Date(this.#options.now()).toUTCString());
    let protocol: ApiCall['protocol'] = 'ec2';
    try {
      const call = parse(request, body);
      protocol = call.protocol;
      const service = this.#verify(request, body, protocol);
      if (service !== SERVICES[protocol]) throw signatureError('scope', `that was signed for ${service}`, protocol);
      const told = await this.#options.answer(call);
      if (told !== 'hang') tell(response, call, told, id);
    } catch (error) {
      if (!(error instanceof AwsApiError)) throw error;
      refuse(response, error, protocol, id);
    }
  }

  #verify(request: IncomingMessage, body: Buffer, protocol: ApiCall['protocol']): string {
    try {
      return this.#options.verify(request, body);
    } catch (error) {
      if (!(error instanceof SignatureError)) throw error;
      throw signatureError(error.fault, error.message, protocol);
    }
  }
}

function parse({ headers, method, url }: IncomingMessage, body: Buffer): ApiCall {
  if (method !== 'POST' || url !== '/') throw new AwsApiError('InvalidAction', `${method} ${url}`);
  const target = /^AWSEC2InstanceConnectService\.(\w+)$/.exec(String(headers['x-amz-target']))?.[1];
  if (target !== undefined) {
    if (headers['content-type'] !== 'application/x-amz-json-1.1')
      throw new AwsApiError('UnknownOperationException', '');
    const input = JSON.parse(body.toString()) as Readonly<Record<string, unknown>>;
    return { protocol: 'json', action: target as AwsAction, input };
  }
  const form = new URLSearchParams(body.toString());
  return { protocol: 'ec2', action: form.get('Action') as AwsAction, form };
}

function tell(response: ServerResponse, call: ApiCall, told: XmlElements, id: string): void {
  if (call.protocol === 'json') {
    response.setHeader('content-type', 'application/x-amz-json-1.1');
    response.end(JSON.stringify({ RequestId: id, ...told }));
    return;
  }
  response.setHeader('content-type', 'text/xml;charset=UTF-8');
  const name = `${call.action}Response`;
  response.end(
    `<?xml version="1.0" encoding="UTF-8"?>\n<${name} xmlns="${XMLNS}">${xml({ requestId: id, ...told })}</${name}>`,
  );
}

function refuse(response: ServerResponse, error: AwsApiError, protocol: ApiCall['protocol'], id: string): void {
  const { code, message, status } = error;
  if (protocol === 'json') {
    response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1' });
    response.end(JSON.stringify({ __type: `com.amazonaws.ec2instanceconnect#${code}`, Message: message }));
    return;
  }
  response.writeHead(status, { 'content-type': 'text/xml;charset=UTF-8' });
  const body = xml({ Response: { Errors: { Error: { Code: code, Message: message } }, RequestID: id } });
  response.end(`<?xml version="1.0" encoding="UTF-8"?>\n${body}`);
}

/** The two services have names of their own for what is wrong with a signature. */
function signatureError(fault: SignatureFault, message: string, protocol: ApiCall['protocol']): AwsApiError {
  if (protocol === 'json') {
    if (fault === 'missing') return new AwsApiError('MissingAuthenticationTokenException', message);
    if (fault === 'expired') return new AwsApiError('ExpiredTokenException', message);
    const isKey = fault === 'key' || fault === 'token';
    return new AwsApiError(isKey ? 'UnrecognizedClientException' : 'InvalidSignatureException', message);
  }
  if (fault === 'expired' || fault === 'old' || fault === 'early')
    return new AwsApiError('RequestExpired', 'Request has expired.');
  if (fault === 'signature') return new AwsApiError('SignatureDoesNotMatch', message, 403);
  return new AwsApiError('AuthFailure', 'AWS was not able to validate the provided access credentials', 401);
}
