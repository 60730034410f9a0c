import { WORKSPACE_LABEL } from '../../domain/workspace.ts';
import type { Change } from './object-store.ts';
import type { Pod } from './pod.ts';

/** The pods of a copy that are labelled for a workspace, by that label: a copy of a whole cluster is not searched in each pass. */
export class OwnedPods {
  readonly #pods = new Map<string, readonly Pod[]>();

  note(change: Change<Pod>): void {
    if (change.kind !== 'added') this.#remove(change.before);
    if (change.kind !== 'gone') this.#add(change.object);
  }

  of(namespace: string, owner: string): readonly Pod[] {
    return this.#pods.get(`${namespace}/${owner}`) ?? [];
  }

  #add(pod: Pod): void {
    const id = idOf(pod);
    if (id !== undefined) this.#pods.set(id, [...(this.#pods.get(id) ?? []), pod]);
  }

  #remove(pod: Pod): void {
    const id = idOf(pod);
    if (id === undefined) return;
    const left = (this.#pods.get(id) ?? []).filter(({ name }) => name !== pod.name);
    if (left.length === 0) this.#pods.delete(id);
    else this.#pods.set(id, left);
  }
}

function idOf({ namespace, labels }: Pod): string | undefined {
  const owner = labels[WORKSPACE_LABEL];
  return owner === undefined ? undefined : `${namespace}/${owner}`;
}
