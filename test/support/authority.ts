import { execFile, spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { tempDir } from './temp-dir.ts';

const run = promisify(execFile);
const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

export interface TestCertificate {
  readonly key: string;
  readonly cert: string;
}

export function hasOpenssl(): boolean {
  return spawnSync('openssl', ['version']).error === undefined;
}

/** A certificate authority that nobody trusts, with files that go when the running test has ended. */
export class TestAuthority {
  readonly caFile: string;
  readonly #dir: string;

  private constructor(dir: string) {
    this.#dir = dir;
    this.caFile = join(dir, 'ca.pem');
  }

  static async create(): Promise<TestAuthority> {
    const authority = new TestAuthority(await tempDir());
    await authority.#openssl('req', '-x509', ...KEY, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=test');
    return authority;
  }

  /** For a server of these names, as X.509 writes them: `DNS:localhost,IP:127.0.0.1`. `days` may be over already. */
  async certify(names: string, days = 2): Promise<TestCertificate> {
    await this.#openssl('req', ...KEY, '-keyout', 'key.pem', '-out', 'request.pem', '-subj', '/CN=test-server');
    await writeFile(join(this.#dir, 'extensions'), `subjectAltName=${names}\n`);
    const authority = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'extensions'];
    await this.#openssl('x509', '-req', '-in', 'request.pem', ...authority, '-days', `${days}`, '-out', 'cert.pem');
    const [key, cert] = await Promise.all(
      ['key.pem', 'cert.pem'].map((name) => readFile(join(this.#dir, name), 'utf8')),
    );
    return { key: key ?? '', cert: cert ?? '' };
  }

  async #openssl(...args: readonly string[]): Promise<void> {
    await run('openssl', [...args], { cwd: this.#dir });
  }
}
