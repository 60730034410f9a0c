import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';

import { onTestFinished } from 'vitest';

export interface GitHttpOptions {
  /** Directory whose repositories are served: `<root>/owner/repo.git` at `/owner/repo.git`. */
  readonly root: string;
  /** Asked for under `/private/`, which serves the same repositories. */
  readonly credential?: { readonly user: string; readonly password: string };
  /** Where `/elsewhere/` sends its callers. */
  readonly elsewhere?: string;
  /** Serves https, as localhost, with this key and certificate (PEM). */
  readonly tls?: { readonly key: string; readonly cert: string };
}

/**
 * A real git server: `git http-backend` behind HTTP. The first segment of a path can change how it behaves:
 * `private` wants the credential, `protocol0` does not know later protocols, `moved` redirects to the same path without
 * it, `elsewhere` to another server, `status-503` answers that, `silent` never answers, `endless-refs` and
 * `endless-pack` never stop, `echo-500` and `echo-err` answer with what they were told, credential included, in a
 * plain-text error and in a git one.
 */
export class GitHttp {
  readonly url: string;
  /** Method, path, Authorization and body size of every request, in order. */
  readonly requests: { readonly path: string; readonly authorization: string | undefined }[] = [];
  readonly #server: Server;
  readonly #options: GitHttpOptions;

  private constructor(server: Server, options: GitHttpOptions) {
    this.#server = server;
    this.#options = options;
    const origin = options.tls === undefined ? 'http://127.0.0.1' : 'https://localhost';
    this.url = `${origin}:${(server.address() as AddressInfo).port}`;
    server.on('request', (request, response) => {
      this.#answer(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
  }

  /** Ends with the running test. */
  static async start(options: GitHttpOptions): Promise<GitHttp> {
    const server = (options.tls === undefined ? createServer() : createTlsServer(options.tls)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const http = new GitHttp(server, options);
    onTestFinished(() => http.stop());
    return http;
  }

  get host(): string {
    return new URL(this.url).host;
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url);
    this.requests.push({ path: url.pathname, authorization: request.headers.authorization });
    const [, mode = ''] = url.pathname.split('/');
    const inner = url.pathname.slice(mode.length + 1);
    const status = /^status-(\d{3})$/.exec(mode)?.[1];
    if (status !== undefined) return void response.writeHead(Number(status)).end('no');
    switch (mode) {
      case 'silent':
        return;
      case 'echo-500':
        if (request.headers.authorization === undefined) return challenge(response);
        return void response.writeHead(500, { 'content-type': 'text/plain' }).end(this.#everythingToldBy(request));
      case 'echo-err':
        if (request.headers.authorization === undefined) return challenge(response);
        response.writeHead(200, { 'content-type': 'application/x-git-upload-pack-advertisement' });
        return void response.end(
          `${packet('# service=git-upload-pack\n')}0000${packet(`ERR ${this.#everythingToldBy(request)}`)}`,
        );
      case 'endless-refs':
        return this.#endlessRefs(response);
      case 'endless-pack':
        return this.#endlessPack(request, response);
      case 'moved':
        return void response.writeHead(301, { location: `${inner}${url.search}` }).end();
      case 'elsewhere':
        return void response.writeHead(302, { location: `${this.#options.elsewhere}${inner}${url.search}` }).end();
      case 'private':
        if (!this.#mayEnter(request)) return challenge(response);
        return this.#serve(request, response, inner, url.search);
      case 'protocol0':
        delete request.headers['git-protocol'];
        return this.#serve(request, response, inner, url.search);
      default:
        return this.#serve(request, response, url.pathname, url.search);
    }
  }

  #mayEnter(request: IncomingMessage): boolean {
    const { user, password } = this.#options.credential ?? { user: '', password: '' };
    return request.headers.authorization === `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
  }

  #everythingToldBy(request: IncomingMessage): string {
    const basic = (request.headers.authorization ?? '').replace(/^Basic /, '');
    const told = Buffer.from(basic, 'base64').toString();
    const password = told.slice(told.indexOf(':') + 1);
    return `authorization: Basic ${basic} ${basic} ${told} ${password} ${encodeURIComponent(password)} https://${told}@example.com/`;
  }

  async #serve(request: IncomingMessage, response: ServerResponse, path: string, search: string): Promise<void> {
    const backend = spawn('git', ['http-backend'], {
      env: {
        PATH: process.env['PATH'],
        GIT_CONFIG_GLOBAL: '/dev/null',
        GIT_CONFIG_NOSYSTEM: '1',
        GIT_PROJECT_ROOT: this.#options.root,
        GIT_HTTP_EXPORT_ALL: '1',
        GIT_PROTOCOL: String(request.headers['git-protocol'] ?? ''),
        PATH_INFO: decodeURIComponent(path),
        QUERY_STRING: search.slice(1),
        REQUEST_METHOD: request.method,
        CONTENT_TYPE: request.headers['content-type'] ?? '',
        HTTP_CONTENT_ENCODING: request.headers['content-encoding'] ?? '',
      },
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    backend.stdin.on('error', () => undefined);
    request.pipe(backend.stdin);
    let head = Buffer.alloc(0);
    for await (const chunk of backend.stdout as AsyncIterable<Buffer>) {
      if (response.headersSent) {
        response.write(chunk);
        continue;
      }
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf('\r\n\r\n');
      if (end >= 0) sendHead(response, head.subarray(0, end).toString(), head.subarray(end + 4));
    }
    response.end();
  }

  async #endlessRefs(response: ServerResponse): Promise<void> {
    response.writeHead(200, { 'content-type': 'application/x-git-upload-pack-advertisement' });
    response.write(`${packet('# service=git-upload-pack\n')}0000`);
    for (let at = 0; !response.destroyed; at += 1) {
      const lines = Array.from({ length: 500 }, (_, n) =>
        packet(`${'1'.repeat(40)} refs/heads/b${at}-${n}${at + n === 0 ? '\0agent=x' : ''}\n`),
      );
      if (!response.write(lines.join(''))) await drained(response);
    }
  }

  /** Protocol 2 as far as needed, and then one blob of a terabyte that does not compress. */
  async #endlessPack(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const body = Buffer.concat(parts).toString('latin1');
    const service = request.method === 'GET' ? 'advertisement' : 'result';
    response.writeHead(200, { 'content-type': `application/x-git-upload-pack-${service}` });
    if (request.method === 'GET') {
      const capabilities = ['version 2\n', 'ls-refs\n', 'fetch=shallow\n', 'object-format=sha1\n'].map(packet).join('');
      return void response.end(`${packet('# service=git-upload-pack\n')}0000${capabilities}0000`);
    }
    if (body.includes('command=ls-refs'))
      return void response.end(`${packet(`${'1'.repeat(40)} refs/heads/main\n`)}0000`);
    response.write(packet('packfile\n'));
    // Pack header with one object; a blob of about a terabyte; zlib header.
    response.write(
      sideBand(
        Buffer.from([0x50, 0x41, 0x43, 0x4b, 0, 0, 0, 2, 0, 0, 0, 1, 0xb0, 0x80, 0x80, 0x80, 0x80, 0x20, 0x78, 0x01]),
      ),
    );
    const stored = Buffer.concat([Buffer.from([0, 0x00, 0xf0, 0xff, 0x0f]), randomBytes(0xf000)]);
    while (!response.destroyed) if (!response.write(sideBand(stored))) await drained(response);
  }
}

function challenge(response: ServerResponse): void {
  response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end();
}

function sendHead(response: ServerResponse, head: string, body: Buffer): void {
  let status = 200;
  for (const line of head.split('\r\n')) {
    const colon = line.indexOf(':');
    const [name, value] = [line.slice(0, colon), line.slice(colon + 1).trim()];
    if (name.toLowerCase() === 'status') status = Number.parseInt(value, 10);
    else response.setHeader(name, value);
  }
  response.writeHead(status);
  response.write(body);
}

/** Room again, or the end of the connection; and a turn of the event loop, which is the tested code's too. */
async function drained(response: ServerResponse): Promise<void> {
  await turn();
  if (response.destroyed || !response.writableNeedDrain) return;
  const settled = new AbortController();
  const { signal } = settled;
  await Promise.race([once(response, 'drain', { signal }), once(response, 'close', { signal })]);
  settled.abort();
}

function packet(text: string): string {
  return `${(Buffer.byteLength(text) + 4).toString(16).padStart(4, '0')}${text}`;
}

function sideBand(data: Buffer): Buffer {
  return Buffer.concat([Buffer.from((data.byteLength + 5).toString(16).padStart(4, '0')), Buffer.from([1]), data]);
}
