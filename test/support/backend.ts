import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';

import { inject, it } from 'vitest';

/** A real thing that tests run against; `global-setup.ts` knows how to start each one. */
export type BackendName =
  | 'compose'
  | 'disk'
  | 'docker'
  | 'dockerd'
  | 'kube-apiserver'
  | 'kubelet'
  | 'kubernetes'
  | 'machine'
  | 'node'
  | 'postgres'
  | 'prometheus'
  | 'sshd';

/** What a starter (`startDocker`, `startPostgres`, `startSshd`) answers: where the back end is, or why there is none. */
export type Backend = RunningBackend | { readonly missing: string };

export interface RunningBackend {
  /** A socket path, a connection URL, a host and port: whatever the tests of this back end dial. */
  readonly address: string;
  /** One phrase for the log: what is used, and whether it was found or started. */
  readonly how: string;
  /** The process to end if the run dies before `stop` could be called; left out for one that was found running. */
  readonly pid?: number;
  /** Ends what was started and removes what it wrote; does nothing to a back end that was found running. */
  stop(): Promise<void>;
}

/** What the main process tells a test file: an address, or why there is none and whether that is a failure. */
export type BackendAnswer = { readonly address: string } | { readonly missing: string; readonly required: boolean };

/**
 * Defines tests against a real back end, which is started once per run, by the first file that asks.
 * Call it at the top level of a test file, with `await`. Where the back end is missing the tests are skipped by name;
 * with `CI=true` that fails the file instead.
 */
export async function withBackend(name: BackendName, define: (address: string) => unknown): Promise<void> {
  const answer = await askFor(name);
  if ('address' in answer) return void (await define(answer.address));
  if (answer.required) throw new Error(`CI=true and ${name} is missing: ${answer.missing}`);
  // oxlint-disable-next-line vitest/no-disabled-tests -- the one place where a test may be skipped: its back end is not here
  it.skip(`${name} is missing: ${answer.missing}`, () => undefined);
}

/** Not by `fetch`, which gives up after five minutes: one that is built for the first time takes longer. */
async function askFor(name: BackendName): Promise<BackendAnswer> {
  const [response] = (await once(get(new URL(name, inject('backendsUrl'))), 'response')) as [IncomingMessage];
  const said = await text(response);
  if (response.statusCode !== 200) throw new Error(`${name} did not start: ${said}`);
  return JSON.parse(said) as BackendAnswer;
}

declare module 'vitest' {
  interface ProvidedContext {
    backendsUrl: string;
  }
}
