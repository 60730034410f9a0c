import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A certificate for loopback that has signed itself, so it is its own authority. Both in PEM. */
export async function selfSigned(): Promise<{ readonly key: string; readonly cert: string }> {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', '-', '-out', '-'];
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  const { stdout } = await run('openssl', ['req', '-x509', '-days', '2', ...key, ...names]);
  const [, pem = '', cert = ''] = /^([^]*-----END PRIVATE KEY-----)([^]*)$/.exec(stdout.trim()) ?? [];
  return { key: pem.trim(), cert: cert.trim() };
}
