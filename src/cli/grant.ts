import type { Grant, GrantKind } from '../domain/grant.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { stateKey } from '../domain/state-key.ts';
import { REQUESTED_AT_ANNOTATION } from '../domain/workspace.ts';
import type { OpenedStore } from '../stores.ts';
import type { CliContext } from './context.ts';
import { whoAmI } from './who-am-i.ts';

/** Writes a grant in the place of any before it, and wakes the workspace. `false`: there is no such workspace. */
export async function grant(
  { clock, signal }: CliContext,
  { state, store }: Pick<OpenedStore, 'state' | 'store'>,
  key: WorkspaceKey,
  kind: GrantKind,
  subject: string,
): Promise<boolean> {
  const loaded = await store.get(key, signal);
  if (loaded.kind === 'absent') return false;
  const { generation } = loaded.kind === 'found' ? loaded.workspace : loaded;
  const atMs = clock.now();
  const time = new Date(atMs).toISOString();
  const value: Grant = { text: `${subject}@${time}`, by: whoAmI(), atMs, generation };
  // Written first: the pass that is woken looks for it.
  for (;;) {
    const before = await state.get(stateKey(kind, key), signal);
    if ((await state.compareAndSwap(stateKey(kind, key), before?.version, value, signal)) !== undefined) break;
  }
  return store.annotate(key, { [REQUESTED_AT_ANNOTATION]: `${time} ${kind}` }, signal);
}
