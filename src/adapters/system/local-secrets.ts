import { scrypt } from 'node:crypto';
import { open } from 'node:fs/promises';
import { promisify } from 'node:util';

import { isFor, type AllowedSecret } from '../../domain/access.ts';
import { codeOf } from '../../domain/error-code.ts';
import { terminal, transient, waiting } from '../../domain/errors.ts';
import type { WorkspaceKey } from '../../domain/name.ts';
import type { SecretReference } from '../../domain/plugin-settings.ts';
import type { Secret, SecretResolver } from '../../ports/secret-resolver.ts';

const MOST_BYTES = 64 * 1024;
const ABSENT_RECHECK_MS = 60_000;
const VERSION_BYTES = 8;
const slowHash = promisify<string, string, number, Buffer>(scrypt);

/** What the operator has put on a list, and nothing else that this process could read. */
export class LocalSecrets implements SecretResolver {
  readonly #allowed: readonly AllowedSecret[];
  readonly #environment: Readonly<Record<string, string | undefined>>;
  /** By reference: the last value, and what it hashes to. That takes 50 ms, and every pass asks. */
  readonly #versions = new Map<string, { readonly value: string; readonly version: Promise<Buffer> }>();

  constructor(allowed: readonly AllowedSecret[], environment: Readonly<Record<string, string | undefined>>) {
    this.#allowed = allowed;
    this.#environment = environment;
  }

  async version(reference: SecretReference, workspace: WorkspaceKey, signal: AbortSignal): Promise<string> {
    return (await this.resolve(reference, workspace, signal)).version;
  }

  async resolve(reference: SecretReference, workspace: WorkspaceKey, signal: AbortSignal): Promise<Secret> {
    const value = await this.#read(reference, workspace);
    signal.throwIfAborted();
    return { value, version: await this.#versionOf(textOf(reference), value) };
  }

  async #read(reference: SecretReference, workspace: WorkspaceKey): Promise<string> {
    if (reference.scheme === 'secret')
      throw terminal('ConfigNotDelivered', 'only a workspace that is declared in Kubernetes can refer to a Secret');
    const allowed = this.#allowed.some((one) => textOf(one) === textOf(reference) && isFor(workspace, one));
    if (!allowed)
      throw terminal('ConfigNotDelivered', "the operator's list (secrets) does not have it for this namespace");
    if (reference.scheme === 'file') return await readSecretFile(reference.path);
    const value = this.#environment[reference.variable];
    if (value !== undefined) return value;
    throw waiting('ConfigNotDelivered', 'the controller has no such variable', ABSENT_RECHECK_MS);
  }

  /** Slow to undo, since it gets about with what it is the version of: a short secret could be guessed by a quick one. */
  async #versionOf(reference: string, value: string): Promise<string> {
    let known = this.#versions.get(reference);
    if (known?.value !== value) {
      known = { value, version: slowHash(value, `plugset ${reference}`, VERSION_BYTES) };
      this.#versions.set(reference, known);
    }
    return (await known.version).toString('hex');
  }
}

async function readSecretFile(path: string): Promise<string> {
  try {
    const file = await open(path);
    try {
      const bytes = Buffer.alloc(MOST_BYTES + 1);
      const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
      if (bytesRead > MOST_BYTES) throw terminal('ConfigNotDelivered', `${path} has more than 64 KiB`);
      return new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, bytesRead)).replace(/\r?\n$/, '');
    } finally {
      await file.close();
    }
  } catch (error) {
    if (codeOf(error) === 'ENOENT')
      throw waiting('ConfigNotDelivered', 'there is no such file', ABSENT_RECHECK_MS, error);
    if (error instanceof TypeError) throw terminal('ConfigNotDelivered', 'it is no UTF-8 text');
    if (error instanceof Error && 'reason' in error) throw error;
    throw transient('ConfigNotDelivered', `it cannot be read (${codeOf(error) ?? 'unknown error'})`, error);
  }
}

function textOf(one: AllowedSecret | SecretReference): string {
  if ('file' in one || 'path' in one) return `file:${'file' in one ? one.file : one.path}`;
  return 'env' in one ? `env:${one.env}` : 'variable' in one ? `env:${one.variable}` : `secret:${one.name}/${one.key}`;
}
