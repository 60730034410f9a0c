import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';

import { transient } from '../../domain/errors.ts';
import { isName } from '../../domain/name.ts';
import type { Clock } from '../../ports/clock.ts';
import type { ControllerState, StateDocument } from '../../ports/controller-state.ts';
import { parseStateKey, encodeStateDocument } from '../../ports/state-document.ts';
import { StateDirectory } from './state-directory.ts';

export interface FilesControllerStateOptions {
  readonly stateDirectory: string;
  readonly clock: Clock;
}

/** Small documents as `documents/KEY.json`. A version is never used twice, so an old writer cannot win by chance. */
export class FilesControllerState implements ControllerState {
  readonly #state: StateDirectory;

  constructor(options: FilesControllerStateOptions) {
    this.#state = new StateDirectory(resolve(options.stateDirectory), options.clock);
  }

  async get(key: string, signal: AbortSignal): Promise<StateDocument | undefined> {
    signal.throwIfAborted();
    return this.#read(fileOf(key));
  }

  async compareAndSwap(
    key: string,
    expected: string | undefined,
    value: unknown,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const file = fileOf(key);
    encodeStateDocument(key, value);
    return this.#state.exclusively(async () => {
      if ((await this.#read(file))?.version !== expected) return undefined;
      const version = randomUUID();
      await this.#state.write(file, { version, value }, true);
      return version;
    }, signal);
  }

  async list(folder: string, signal: AbortSignal): Promise<readonly string[]> {
    signal.throwIfAborted();
    parseStateKey(folder);
    const paths = await this.#state.filesBelow(`${ROOT}/${markedFolder(folder)}`);
    return paths.flatMap((path) => {
      const key = [folder, ...path.split('/').map(unmarked)].join('/').replace(/\.json$/, '');
      // Whatever else lies there was not written by us.
      return path.endsWith('.json') && key.split('/').every(isName) ? [key] : [];
    });
  }

  async remove(key: string, expected: string, signal: AbortSignal): Promise<boolean> {
    const file = fileOf(key);
    return this.#state.exclusively(async () => {
      if ((await this.#read(file))?.version !== expected) return false;
      await this.#state.remove(file);
      return true;
    }, signal);
  }

  async #read(file: string): Promise<StateDocument | undefined> {
    const document = await this.#state.read(file);
    if (document === undefined || isDocument(document)) return document;
    throw transient(
      'StoreUnavailable',
      `${this.#state.path}/${file} is not what plugset writes; remove it to begin anew`,
    );
  }
}

function isDocument(value: unknown): value is StateDocument {
  return (
    typeof value === 'object' &&
    value !== null &&
    'value' in value &&
    'version' in value &&
    typeof value.version === 'string'
  );
}

const ROOT = 'documents';

/** `a/b` is a file in the folder `a`; a folder that ends like a file gets a mark that no name has. */
function fileOf(key: string): string {
  const parts = parseStateKey(key);
  return [ROOT, ...parts.slice(0, -1).map(markedFolder), `${parts.at(-1)}.json`].join('/');
}

function markedFolder(name: string): string {
  return name.endsWith('.json') ? `${name}~` : name;
}

function unmarked(name: string): string {
  return name.replace(/~$/, '');
}
