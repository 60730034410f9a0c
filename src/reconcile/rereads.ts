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

/**
 * Whether the runtime takes up by itself everything that a plan changes. `before`: what it was planned from. Takes a look
 * where that has no lists, and only for a runtime whose profile names files that it rereads.
 */
export async function rereadsAll(
  pass: Pass,
  place: HostPlace,
  { entries }: Plan,
  before: Observation,
  looks: Looks,
): Promise<boolean> {
  const { rereads, settingsNeedRestart } = place.profile;
  const moving = takenUp(entries, place.profile);
  const isCandidate = moving.every(
    ({ action, settings }) =>
      (action === 'replace' || action === 'restore') && !(settingsNeedRestart === true && settings !== undefined),
  );
  if (rereads.length === 0 || before.journalPending || moving.length === 0 || !isCandidate) return false;
  const hasLists = before.plugins.some(({ lists }) => lists !== undefined);
  const { plugins } = hasLists ? before : await looks.look(pass, place, 'lists');
  return moving.every((entry) => {
    const observed = plugins.find(({ name }) => name === entry.plugin);
    const wanted = pass.desired.plugins.find(({ name }) => name === entry.plugin);
    return isTakenUpByItself(entry, observed, wanted?.kind === 'resolved' ? wanted.lists : undefined, rereads);
  });
}
