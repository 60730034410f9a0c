import type { WorkspaceKey } from '../../domain/name.ts';
import { isSameStand, type Standing, type Transition } from '../../domain/transition.ts';
import { LISTED } from './message.ts';

/** So many workspaces are remembered before what is gathered is told early. */
const MOST = 20_000;

/**
 * What happened within one window, a line for each workspace, however often it went to and fro. Of those that no message
 * would list by name, only the stands are kept, so that a whole fleet which falls over at once costs little memory.
 */
export class Gathering {
  readonly #changes = new Map<WorkspaceKey, Transition>();
  readonly #listed = new Map<string, number>();

  get isFull(): boolean {
    return this.#changes.size >= MOST;
  }

  add(transition: Transition): void {
    const { workspace } = transition;
    const before = this.#changes.get(workspace);
    // What counts is where it was when the window began.
    const whole = before === undefined ? transition : { ...transition, from: before.from };
    this.#changes.set(workspace, this.#isListed(causeOf(transition)) ? whole : { ...whole, message: '', plugins: [] });
  }

  /** By cause; without those that are back where they were, and without stands that nobody wants to hear of. Empties it. */
  take(wanted: readonly Standing[]): readonly (readonly [Transition, ...Transition[]])[] {
    const groups = new Map<string, [Transition, ...Transition[]]>();
    for (const change of this.#changes.values()) {
      const { from, to } = change;
      if (!wanted.includes(to.standing) || (from !== undefined && isSameStand(from, to))) continue;
      const group = groups.get(causeOf(change));
      if (group === undefined) groups.set(causeOf(change), [change]);
      else group.push(change);
    }
    this.#changes.clear();
    this.#listed.clear();
    return [...groups.values()];
  }

  #isListed(cause: string): boolean {
    const listed = this.#listed.get(cause) ?? 0;
    this.#listed.set(cause, listed + 1);
    return listed < LISTED;
  }
}

function causeOf({ to }: Transition): string {
  return `${to.standing} ${to.reason}`;
}
