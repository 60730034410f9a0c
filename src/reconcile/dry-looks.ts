import type { Gated } from '../domain/gate.ts';
import { fileChanges, type FileChanges } from '../domain/file-changes.ts';
import { transient } from '../domain/errors.ts';
import type { PluginName, WorkspaceKey } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';
import { isManaged, type DesiredPlugin, type Plan } from '../domain/plan.ts';
import type { Residue } from '../domain/residue.ts';
import type { RestartForecast, WorkspaceStatus } from '../domain/status.ts';
import type { Workspace } from '../domain/workspace.ts';
import { traced, type PathTrace } from '../ports/path-trace.ts';
import type { ControllerState } from '../ports/controller-state.ts';
import type { HostPlace, ToolBench } from '../ports/plugin-host.ts';
import type { Loaded, WorkspaceStore } from '../ports/workspace-store.ts';
import { forecastRestart } from './restart-forecast.ts';
import { resolveDesired, type DesiredPorts } from './desired.ts';
import type { FormerPlaces, FormerPreview } from './former-places.ts';
import { whyUnseen } from './idle.ts';
import type { Pass } from './pass.ts';
import { planResidue } from './residue.ts';
import type { Steps } from './steps.ts';
import { guessSources, surveyOf, type SurveyedPlugin } from './survey.ts';

export interface DryLooksOptions extends DesiredPorts {
  readonly state: ControllerState;
  readonly store: WorkspaceStore;
}

/** What `plugset plan` shows of one workspace. */
export interface Preview {
  readonly kind: 'planned';
  readonly workspace: Workspace;
  readonly target: string;
  readonly planned: Gated;
  readonly observation: Observation;
  /** Whether its runtime is restarted then; `undefined`: nothing of it would be changed, or it is nobody's to restart. */
  readonly restart: RestartForecast | undefined;
  /** What would be taken away, once that is done, in places that the workspace has left. */
  readonly former: readonly FormerPreview[];
  /** What becomes of the files of plugins that are replaced, where both trees are known. */
  readonly files: ReadonlyMap<PluginName, FileChanges>;
  /** What else would be edited, since the runtime's loader made it of plugins; `undefined`: nothing. */
  readonly residue: Pick<Residue, 'changes' | 'left'> | undefined;
}

/** What `plugset import` shows of one workspace. */
export interface Survey {
  readonly kind: 'surveyed';
  readonly workspace: Workspace;
  readonly status: WorkspaceStatus;
  readonly plugins: readonly SurveyedPlugin[];
}

/** Who manages a target, as it says itself. */
export interface Owner {
  readonly kind: 'looked';
  readonly target: string;
  /** `undefined`: nobody ever wrote there. */
  readonly authority: string | undefined;
  /** What was installed there by plugset, this one or another. */
  readonly installed: readonly PluginName[];
}

/** The whole way to a target was gone. */
export interface Walked {
  readonly kind: 'walked';
  readonly target: string;
}

/** Who hears of that way, and who knows what has to be there at its end. */
export interface Walk {
  readonly trace: PathTrace;
  readonly bench: ToolBench;
}

/** Nobody looks at its target. */
export type Unseen = Exclude<Loaded, { kind: 'found' }> | { readonly kind: 'unseen'; readonly why: string };

/** Looks at targets for people, and changes nothing anywhere. */
export class DryLooks {
  readonly #steps: Steps;
  readonly #formerPlaces: FormerPlaces;
  readonly #options: DryLooksOptions;

  constructor(steps: Steps, formerPlaces: FormerPlaces, options: DryLooksOptions) {
    this.#steps = steps;
    this.#formerPlaces = formerPlaces;
    this.#options = options;
  }

  /** Looks and plans like a pass. `authority`: who this controller is; `undefined` where it never wrote anything. */
  async preview(key: WorkspaceKey, authority: string | undefined, signal: AbortSignal): Promise<Preview | Unseen> {
    const pass = await this.#begin(key, signal);
    if ('kind' in pass) return pass;
    await this.#steps.places.recall(pass);
    const place = await this.#steps.locate(pass);
    pass.desired = await resolveDesired(pass.workspace, this.#options, false, signal);
    const { looks } = this.#steps;
    const observation = await looks.look(pass, place, 'loader');
    // Who never wrote anything (a CI job with a state directory of its own) shows what whoever manages it would do.
    await this.#steps.checkOwnership(pass, authority ?? observation.fence?.authority ?? 'nobody', observation);
    const planned = await this.#steps.plan(pass, observation, true);
    const files = filesOf(planned.plan, pass.desired.plugins, observation);
    const residue = await planResidue(pass, place, planned.plan, observation, looks);
    const former = await this.#formerPlaces.preview(pass, place, authority);
    const restart = await forecastRestart(pass, place, planned.plan, this.#options.state, looks);
    const { workspace, target } = pass;
    return { kind: 'planned', workspace, target, planned, observation, files, residue, restart, former };
  }

  /** Whom a takeover of the target would take it from. */
  async owner(key: WorkspaceKey, signal: AbortSignal): Promise<Owner | Unseen> {
    const pass = await this.#begin(key, signal);
    if ('kind' in pass) return pass;
    const { fence, plugins } = await this.#steps.looks.look(pass, await this.#steps.locate(pass));
    const installed = plugins.filter((plugin) => plugin.present && isManaged(plugin)).map(({ name }) => name);
    return { kind: 'looked', target: pass.target, authority: fence?.authority, installed };
  }

  /** Goes the way of a pass to its target, up to where a change would begin, and tells each step. */
  async walk(key: WorkspaceKey, { trace, bench }: Walk, signal: AbortSignal): Promise<Walked | Unseen> {
    const pass = await this.#begin(key, signal);
    if ('kind' in pass) return pass;
    const place = await traced(trace, 'target', async (saw) => {
      const found = await this.#steps.locate(pass);
      saw({ target: pass.target });
      return found;
    });
    await traced(trace, 'tools', async (saw) => {
      const tools = await bench.tools(place, signal);
      saw(Object.fromEntries(tools.map(({ name, path }) => [name, path ?? 'missing, and not needed'])));
    });
    const { owner } = await traced(trace, 'config directory', async (saw) => {
      saw({ path: place.configDir });
      const observation = await this.#steps.looks.look(pass, place);
      const { uid, gid } = observation.owner;
      saw({ owner: `${uid}:${gid}`, plugins: observation.plugins.filter(({ present }) => present).length });
      return observation;
    });
    await traced(trace, 'owner', async (saw) => {
      saw({ as: `${owner.uid}:${owner.gid}` });
      await runAs(place, owner, signal);
    });
    return { kind: 'walked', target: pass.target };
  }

  /** What is on the target of a declared workspace, and where it came from. */
  async survey(key: WorkspaceKey, signal: AbortSignal): Promise<Survey | Unseen> {
    const pass = await this.#begin(key, signal);
    if ('kind' in pass) return pass;
    const { workspace, previous: status } = pass;
    const place = await this.#steps.locate(pass);
    const guesses = guessSources(await this.#steps.looks.look(pass, place), workspace);
    pass.desired = await resolveDesired({ ...workspace, plugins: guesses }, this.#options, false, signal);
    const plugins = surveyOf(await this.#steps.looks.look(pass, place), pass.desired.plugins);
    return { kind: 'surveyed', workspace, status, plugins };
  }

  async #begin(key: WorkspaceKey, signal: AbortSignal): Promise<Pass | Unseen> {
    const loaded = await this.#options.store.get(key, signal);
    if (loaded.kind !== 'found') return loaded;
    const why = whyUnseen(loaded.workspace);
    return why === undefined ? this.#steps.begin(loaded, signal) : { kind: 'unseen', why };
  }
}

const NOTHING_DEADLINE_MS = 30_000;

/** Whether its files can be written as their owner: that alone is tried, and nothing is written. */
async function runAs({ target }: HostPlace, owner: Observation['owner'], signal: AbortSignal): Promise<void> {
  const result = await target.run(['true'], { as: owner, deadlineMs: NOTHING_DEADLINE_MS, signal });
  if (result.kind === 'exited' && result.code === 0) return;
  const how = result.kind === 'unknown' ? result.message : `exit code ${result.code}`;
  throw transient('Unreachable', `${target.description} runs nothing as the owner of its config directory: ${how}`);
}

function filesOf(
  { entries }: Plan,
  desired: readonly DesiredPlugin[],
  { plugins }: Observation,
): ReadonlyMap<PluginName, FileChanges> {
  const before = new Map(plugins.map(({ name, lists }) => [name, lists]));
  const after = new Map(desired.flatMap((one) => (one.kind === 'resolved' ? [[one.name, one.lists] as const] : [])));
  return new Map(
    entries.flatMap(({ action, plugin }) => {
      const [old, young] = [before.get(plugin), after.get(plugin)];
      return action === 'replace' && old !== undefined && young !== undefined
        ? [[plugin, fileChanges(old, young)] as const]
        : [];
    }),
  );
}
