import { transient, type ReconcileError } from '../domain/errors.ts';
import type { Fence } from '../domain/fence.ts';
import type { Gated } from '../domain/gate.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';
import { describePlace, workspaceAt, type KnownPlace } from '../domain/place.ts';
import { isManaged } from '../domain/plan.ts';
import { findProfile, type RuntimeProfile } from '../domain/profile.ts';
import type { Reason } from '../domain/reason.ts';
import type { LeftBehind } from '../domain/status.ts';
import type { Clock } from '../ports/clock.ts';
import type { HostPlace } from '../ports/plugin-host.ts';
import type { TargetProvider } from '../ports/workspace-target.ts';
import { applyPlan, type ApplyPorts } from './apply.ts';
import { providerAt } from './locate.ts';
import { knownPlugins, mayWrite, ownedOnly, passError, soonestFailure, unfinished, type Pass } from './pass.ts';
import { leftBehind } from './places.ts';
import { isSameDirectory } from './same-directory.ts';
import type { Steps } from './steps.ts';

export interface FormerPlacesOptions extends ApplyPorts {
  readonly providers: readonly TargetProvider[];
  readonly profiles: readonly RuntimeProfile[];
  readonly clock: Clock;
}

/** What would be taken away in a former place, or why that cannot be told or done. */
export type FormerPreview = { readonly place: string } & (
  | { readonly kind: 'planned'; readonly planned: Gated }
  | { readonly kind: 'left'; readonly reason: Reason; readonly message: string }
);

/** How long a former place that failed is left alone: nobody waits for it, and the new one is looked after meanwhile. */
const RETRY_MS = 60_000;

/** One that fails so fails for everybody on it. */
const SHARED: ReadonlySet<Reason> = new Set<Reason>(['Unreachable', 'AuthenticationFailed']);

/** There is nothing that could be taken away. */
const GONE: ReadonlySet<Reason> = new Set<Reason>(['WorkspaceNotFound', 'ConfigDirMissing']);

type Found =
  | { readonly kind: 'work'; readonly pass: Pass; readonly place: HostPlace; readonly observation: Observation }
  /** Nothing there is ours to take away, for the reason that `word` tells people. */
  | { readonly kind: 'over'; readonly word: string };

/**
 * Takes away what plugset installed where a workspace's plugins were before its declaration moved them. Whether they may
 * lie there any longer is no question of `policy.deletion`: Orphan protects from a declaration that vanishes by mistake,
 * and this one is there, and names another place.
 */
export class FormerPlaces {
  readonly #steps: Steps;
  readonly #options: FormerPlacesOptions;
  /** Monotonic time before which nothing is tried, by workspace or by what it shares with others. */
  readonly #restsUntilMs = new Map<string, number>();

  constructor(steps: Steps, options: FormerPlacesOptions) {
    this.#steps = steps;
    this.#options = options;
  }

  /**
   * For a workspace whose plugins are as declared at `here`, or that is being deleted. What could not be done stays owed
   * and is told in the status; answers the first failure of that kind, and throws only where the pass has to end.
   */
  async clean(pass: Pass, here: HostPlace | undefined, fence: Fence): Promise<ReconcileError | undefined> {
    const left: LeftBehind[] = [];
    let failure: ReconcileError | undefined;
    for (const former of this.#steps.places.formerOf(pass)) {
      try {
        const news = await this.#cleanOne(pass, here, former, fence);
        if (news === undefined) await this.#steps.places.strike(pass, former);
        else left.push(news);
      } catch (thrown) {
        const error = passError(pass, thrown);
        // A fence that was forged there must not hold up what goes on elsewhere; the store knows whose turn it is.
        if (pass.signal.aborted || (error.class === 'aborted' && error.reason !== 'StaleFence')) throw error;
        failure ??= error;
        left.push(leftBehind(pass, former, error));
        this.#rest(pass, former, error);
      }
    }
    pass.leftBehind = left;
    if (left.length === 0) this.forget(pass.key);
    return failure;
  }

  /** What {@link clean} would do now. */
  async preview(pass: Pass, here: HostPlace, authority: string | undefined): Promise<readonly FormerPreview[]> {
    const previews: FormerPreview[] = [];
    for (const former of this.#steps.places.formerOf(pass)) {
      const place = describePlace(former);
      const stays = reasonToStay(pass);
      try {
        const found = stays === undefined ? await this.#find(pass, here, former, authority) : undefined;
        if (stays !== undefined) previews.push({ place, kind: 'left', ...stays });
        if (found?.kind !== 'work') continue;
        const planned = await this.#steps.plan(found.pass, found.observation, true);
        if (planned.plan.entries.length > 0) previews.push({ place, kind: 'planned', planned });
      } catch (thrown) {
        const { reason, message } = passError(pass, thrown);
        pass.signal.throwIfAborted();
        if (!GONE.has(reason)) previews.push({ place, kind: 'left', reason, message });
      }
    }
    return previews;
  }

  forget(key: WorkspaceKey): void {
    this.#restsUntilMs.delete(key);
  }

  /** `undefined`: nothing of ours is left there. */
  async #cleanOne(
    pass: Pass,
    here: HostPlace | undefined,
    former: KnownPlace,
    fence: Fence,
  ): Promise<LeftBehind | undefined> {
    const stays = reasonToStay(pass);
    if (stays !== undefined) return leftBehind(pass, former, stays);
    const last = pass.leftBehind?.find(({ place }) => place === describePlace(former));
    if (last !== undefined && this.#isResting(pass, former)) return last;
    const found = await this.#findOrGone(pass, here, former, fence.authority);
    if (found.kind === 'over') {
      pass.logger.info('a former place is left as it is', { place: describePlace(former), why: found.word });
      return undefined;
    }
    return this.#takeAway(pass, found, former, fence);
  }

  async #takeAway(
    pass: Pass,
    { pass: there, place, observation }: Extract<Found, { kind: 'work' }>,
    former: KnownPlace,
    fence: Fence,
  ): Promise<LeftBehind | undefined> {
    const { allowed, hold, plan } = await this.#steps.plan(there, observation);
    pass.spent = there.spent;
    if (hold !== undefined) {
      pass.heldElsewhere ??= {
        planId: plan.id,
        hold: { ...hold, message: `${hold.message} (${describePlace(former)})` },
      };
      return leftBehind(pass, former, hold);
    }
    if (allowed.entries.length === 0 && !observation.journalPending) return undefined;
    if (!mayWrite(there)) throw unfinished(there);
    try {
      await this.#steps.phase('converge', pass.key, () =>
        applyPlan(there, place, allowed, observation, fence, { ...this.#options, looks: this.#steps.looks }),
      );
    } finally {
      this.#tell(pass, there, former);
    }
    const failure = soonestFailure(there.planned?.verdicts ?? []);
    if (failure !== undefined) throw failure;
    return undefined;
  }

  /** What was done elsewhere belongs to the history and the counts of the workspace like anything else. */
  #tell(pass: Pass, there: Pass, former: KnownPlace): void {
    const { history } = there;
    if (history !== undefined)
      pass.elsewhere.push({ ...history, summary: `${history.summary}; in ${describePlace(former)}` });
    pass.intentional += there.intentional;
    pass.spent = there.spent;
    pass.handledApproval ??= there.handledApproval;
  }

  async #findOrGone(
    pass: Pass,
    here: HostPlace | undefined,
    former: KnownPlace,
    authority: string | undefined,
  ): Promise<Found> {
    try {
      return await this.#find(pass, here, former, authority);
    } catch (thrown) {
      const error = passError(pass, thrown);
      if (!GONE.has(error.reason)) throw error;
      return { kind: 'over', word: `it does not exist any more: ${error.message}` };
    }
  }

  async #find(
    pass: Pass,
    here: HostPlace | undefined,
    former: KnownPlace,
    authority: string | undefined,
  ): Promise<Found> {
    const workspace = workspaceAt(pass.workspace, former);
    const target = await providerAt(workspace, this.#options.providers).locate(workspace, pass.signal);
    const profile = findProfile(this.#options.profiles, former.runtime) ?? here?.profile;
    if (profile === undefined) throw transient('UnknownRuntime', `runtime ${former.runtime} has no profile any more`);
    const place: HostPlace = { target, configDir: former.configDir, profile };
    if (here !== undefined && (await isSameDirectory(here, place, pass.signal)))
      return { kind: 'over', word: 'it is the same directory as the new place' };
    const claimants = await this.#steps.claims.claimantsOf(workspace, target.identity, pass.signal);
    if (claimants.length > 0) return { kind: 'over', word: `${claimants.join(', ')} has it now` };
    const there = passAt(pass, workspace, place, former);
    const observation = await this.#steps.looks.lookForChange(there, place);
    const manager = observation.fence?.authority ?? authority;
    if (authority !== undefined && manager !== authority)
      return { kind: 'over', word: `another controller manages it (authority ${manager})` };
    // Nothing is lost that stands in the new place; what is no longer declared there either counts like any removal. To the
    // fleet each counts as emptied: an edit without its WHERE may have moved all of it.
    const declared = new Set<string>(pass.desired.plugins.map(({ name }) => name));
    const owned = ownedOnly(observation, pass.key).plugins.filter((one) => one.present && isManaged(one));
    const known = knownPlugins(pass);
    const standsElsewhere = owned.every(({ name }) => declared.has(name) || !known.has(name));
    return { kind: 'work', pass: { ...there, standsElsewhere }, place, observation };
  }

  #isResting(pass: Pass, former: KnownPlace): boolean {
    if (pass.request !== undefined || pass.workspace.deleting) return false;
    const nowMs = this.#options.clock.monotonic();
    return [pass.key, this.#laneOf(pass, former)].some((id) => nowMs < (this.#restsUntilMs.get(id) ?? 0));
  }

  #rest(pass: Pass, former: KnownPlace, { reason }: ReconcileError): void {
    const id = SHARED.has(reason) ? this.#laneOf(pass, former) : pass.key;
    this.#restsUntilMs.set(id, this.#options.clock.monotonic() + RETRY_MS);
  }

  #laneOf(pass: Pass, former: KnownPlace): string {
    const workspace = workspaceAt(pass.workspace, former);
    return `lane ${providerAt(workspace, this.#options.providers).lane(workspace)}`;
  }
}

/** Why a former place stays as it is, whatever is there. */
function reasonToStay({ workspace }: Pass): Omit<LeftBehind, 'place'> | undefined {
  const { deleting, policy } = workspace;
  if (policy.mode === 'Observe') return { reason: 'ObserveOnly', message: 'policy.mode is Observe' };
  if (policy.prune !== 'Off' || deleting) return undefined;
  return { reason: 'PruneOff', message: 'what plugset installed there is kept because policy.prune is Off' };
}

/** A pass over another place of the same workspace, where nothing is wanted. */
function passAt(pass: Pass, workspace: Pass['workspace'], { target }: HostPlace, former: KnownPlace): Pass {
  const { previous } = pass;
  const wasLeft = previous.leftBehind?.some(({ place }) => place === describePlace(former)) === true;
  return {
    ...pass,
    workspace,
    // Whoever undoes the edit that was held leaves another place, of which a guard has said nothing.
    previous: wasLeft ? previous : { ...previous, pruneHeldSince: undefined },
    target: target.description,
    identity: target.identity,
    isLeaving: true,
    desired: { plugins: [], artifacts: new Map() },
    observation: undefined,
    planned: undefined,
    history: undefined,
    corrective: 0,
    intentional: 0,
  };
}
