import type { Observation } from '../domain/observation.ts';
import type { Plan, PlanEntry } from '../domain/plan.ts';
import type { RuntimeProfile } from '../domain/profile.ts';
import { isTakenUpByItself } from '../domain/rereads.ts';
import type { HostPlace } from '../ports/plugin-host.ts';
import type { Looks } from './looks.ts';
import type { Pass } from './pass.ts';

/** What a runtime has to take up of a plan: what is adopted it has already. */
export function takenUp(entries: readonly PlanEntry[], { settingsNeedRestart }: RuntimeProfile): readonly PlanEntry[] {
  return entries.filter(({ action }) => action !== 'adopt' && (action !== 'configure' || settingsNeedRestart === true));
}

/** What a runtime needs to take a change up: it rereads it by itself, is told to, or is started anew. */
export type ActivationClass = 'none' | 'reload' | 'restart';

/**
 * Classes a plan by the files that it changes. `before`: what it was planned from. Takes a look where that has no lists, and
 * only for a runtime whose profile names files that it rereads, or reloads.
 */
export async function activationClass(
  pass: Pass,
  place: HostPlace,
  { entries }: Plan,
  before: Observation,
  looks: Looks,
): Promise<ActivationClass> {
  const { rereads, reload, settingsNeedRestart } = place.profile;
  const moving = takenUp(entries, place.profile);
  if (before.journalPending) return 'restart';
  if (moving.length === 0) return 'none';
  const isCandidate = moving.every(
    ({ action, settings }) =>
      (action === 'replace' || action === 'restore') && !(settingsNeedRestart === true && settings !== undefined),
  );
  const reloaded = [...rereads, ...(reload?.paths ?? [])];
  if (reloaded.length === 0 || !isCandidate) return 'restart';
  const hasLists = before.plugins.some(({ lists }) => lists !== undefined);
  const { plugins } = hasLists ? before : await looks.look(pass, place, 'lists');
  const isWithin = (patterns: readonly string[]): boolean =>
    moving.every((entry) => {
      const observed = plugins.find(({ name }) => name === entry.plugin);
      const wanted = pass.desired.plugins.find(({ name }) => name === entry.plugin);
      return isTakenUpByItself(entry, observed, wanted?.kind === 'resolved' ? wanted.lists : undefined, patterns);
    });
  if (isWithin(rereads)) return 'none';
  return isWithin(reloaded) ? 'reload' : 'restart';
}
