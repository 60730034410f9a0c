/*
 * Every document of `ControllerState` has its key from here. README.md, "What plugset remembers", says of each who writes and
 * reads it, what takes it away, and what becomes of it when it cannot be read.
 */

export const STATE_FOLDERS = [
  'activation',
  'approval',
  'emptied',
  'fleet',
  'hostkey',
  'places',
  'removals',
  'takeover',
] as const;

export type StateFolder = (typeof STATE_FOLDERS)[number];

/** `name` is a workspace's key where the folder has a document for each, or a namespace. */
export function stateKey(folder: StateFolder, name: string): string {
  return `${folder}/${name}`;
}
