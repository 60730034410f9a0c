import type { Fence } from '../domain/fence.ts';
import type { Transition } from '../domain/transition.ts';

/** Tells people outside what became of workspaces. */
export interface Notifier {
  /**
   * Takes one transition and returns at once: never throws, never waits, and keeps a bounded amount. Called after the status
   * that shows it was written, so nobody is told twice; who is ended right then tells nobody. `authority`: on whose word.
   */
  notify(transition: Transition, authority: Fence['authority']): void;
}
