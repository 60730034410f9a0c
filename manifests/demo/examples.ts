import { findEngine, makeContainers, removeContainers } from './containers.ts';
import type { Place } from './place.ts';
import { notesSource } from './props.ts';
import { inContainers, inDirectories, type Access } from './tryouts.ts';
import type { Undo } from './undo.ts';
import type { Watcher } from './watcher.ts';

export const EXAMPLES = ['alice', 'bob', 'carol'] as const;

/** Where the example workspaces are, and how one gets there. */
export interface Workspaces {
  readonly how: string;
  readonly address: string | undefined;
  readonly access: Access;
  readonly targetOf: (name: string) => { readonly id?: string; readonly target: object };
}

/** Containers where an engine can make them, else directories. */
export async function makeWorkspaces(place: Place, undo: Undo): Promise<Workspaces> {
  const idOf = (name: string): string => `${name}-${place.suffix}`;
  const engine = await findEngine();
  let why = 'missing' in engine ? engine.missing : undefined;
  if (!('missing' in engine)) {
    undo.later(() => removeContainers(place));
    await removeContainers(place);
    why = await makeContainers(place, EXAMPLES.map(idOf));
    if (why === undefined) {
      return {
        how: `containers of the Docker engine ${engine.version} at ${engine.address}`,
        address: engine.address,
        access: inContainers(idOf),
        targetOf: (name) => ({ id: idOf(name), target: { docker: {} } }),
      };
    }
  }
  return {
    how: `directories, because no container could be made: ${why}`,
    address: undefined,
    access: inDirectories(place),
    targetOf: (name) => ({ target: { directory: { path: place.path('workspaces', name) } } }),
  };
}

/** As a person with psql would. */
export async function declare(watcher: Watcher, targetOf: Workspaces['targetOf'], place: Place): Promise<void> {
  const runtimes = { alice: 'claude-code', bob: 'hermes', carol: 'claude-code' };
  const plugins = [
    ['alice', 'greeter', 'local://greeter'],
    ['alice', 'notes', notesSource(place)],
    ['bob', 'greeter', 'local://greeter'],
    ['carol', 'linter', 'local://linter'],
    ['carol', 'notes', notesSource(place)],
  ];
  await watcher.query('begin');
  for (const name of EXAMPLES) {
    const { id, target } = targetOf(name);
    const sql = 'insert into plugset.workspaces (name, id, runtime, target) values ($1, $2, $3, $4)';
    await watcher.query(sql, [name, id ?? null, runtimes[name], target]);
  }
  for (const plugin of plugins) {
    await watcher.query('insert into plugset.plugins (workspace, name, source) values ($1, $2, $3)', plugin);
  }
  await watcher.query('commit');
}
