import { copyFile, chmod, readFile } from 'node:fs/promises';

import { transient } from '../../domain/errors.ts';
import type { GitEndpoint } from './address.ts';

/**
 * The lines of credential files (git's credential-store format, `https://user:token@host:port`) that fit exactly this
 * protocol, host and port. Read anew each time: tokens are rotated.
 */
export async function credentialLines(files: readonly string[], endpoint: GitEndpoint): Promise<readonly string[]> {
  if (endpoint.protocol !== 'http' && endpoint.protocol !== 'https') return [];
  const lines: string[] = [];
  for (const file of files) {
    const text = await readFile(file, 'utf8').catch((error: unknown) => {
      throw unusable(file, error);
    });
    lines.push(...text.split(/\r?\n/).filter((line) => fits(line, endpoint)));
  }
  return lines;
}

function fits(line: string, endpoint: Extract<GitEndpoint, { host: string }>): boolean {
  const url = URL.canParse(line) ? new URL(line) : undefined;
  if (url === undefined || url.password === '' || url.protocol !== `${endpoint.protocol}:`) return false;
  const port = url.port === '' ? (url.protocol === 'http:' ? 80 : 443) : Number(url.port);
  return url.hostname === endpoint.host && port === endpoint.port;
}

/** Every form in which the secrets of some credential lines may turn up in a text. */
export function secretsOf(lines: readonly string[]): readonly string[] {
  return lines.flatMap((line) => {
    const { username, password } = new URL(line);
    const name = decode(username);
    const secret = decode(password);
    const basic = Buffer.from(`${name}:${secret}`).toString('base64');
    return [line, password, secret, encodeURIComponent(secret), basic, basic.replaceAll('=', '')];
  });
}

/** ssh refuses a key that others may read, and a mounted Secret always is such a one: it gets a private copy. */
export async function copyKey(from: string, to: string): Promise<void> {
  try {
    await copyFile(from, to);
    await chmod(to, 0o600);
  } catch (error) {
    throw unusable(from, error);
  }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function unusable(file: string, error: unknown): Error {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
  return transient('SourceUnavailable', `the credential file ${file} cannot be read (${code})`, error);
}
