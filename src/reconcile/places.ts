import { terminal } from '../domain/errors.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import {
  describePlace,
  placeMark,
  placeOf,
  placeOfOtherKind,
  placesSchema,
  type KnownPlace,
  type Remembered,
} from '../domain/place.ts';
import { findProfile, type RuntimeProfile } from '../domain/profile.ts';
import { stateKey } from '../domain/state-key.ts';
import type { LeftBehind } from '../domain/status.ts';
import { targetKind, type Workspace } from '../domain/workspace.ts';
import type { ControllerState } from '../ports/controller-state.ts';
import type { HostPlace } from '../ports/plugin-host.ts';
import type { Pass } from './pass.ts';
import { readDocument, writeDocument } from './state-documents.ts';

export interface PlacesOptions {
  readonly state: ControllerState;
  readonly profiles: readonly RuntimeProfile[];
}

/**
 * Remembers every place where plugins of a workspace were put, until they are taken away there. A place is written down
 * before the first byte goes there, so that no moment at which this process may end leaves one that nobody knows of.
 */
export class Places {
  readonly #options: PlacesOptions;

  constructor(options: PlacesOptions) {
    this.#options = options;
  }

  /**
   * Reads what is remembered, where the status does not say that it cannot matter: reading it in every pass would cost a
   * fleet a question to the store for each. The status is a hint and no more; a forged one leaves old plugins lying. One
   * of two generations ago says nothing: between the two there may have been a place that no status was written from.
   * Throws `TargetKindChanged` (terminal).
   */
  async recall(pass: Pass): Promise<void> {
    const { previous, workspace } = pass;
    const mark = this.#markOf(workspace);
    const unseen = workspace.generation - previous.observedGeneration;
    const isTold = isMarkOf(previous.place, mark) && (unseen === 0 || unseen === 1);
    if (isTold && previous.leftBehind === undefined) return;
    await this.read(pass);
    const other = placeOfOtherKind(pass.workspace, pass.places?.places ?? []);
    if (other !== undefined) throw kindChanged(pass.workspace, other);
    // Nothing is ever put on a target that is not looked at.
    if (targetKind(pass.workspace.target) === 'external') pass.place = mark;
  }

  async read(pass: Pass): Promise<void> {
    const remembered = await this.#get(pass.key, pass.signal);
    pass.places = isBeforeAnyPass(pass) ? { ...remembered, places: [] } : remembered;
    pass.owesFormer = this.formerOf(pass).length > 0;
  }

  /** Of a workspace of which no pass can be made. */
  async known(key: WorkspaceKey, signal: AbortSignal): Promise<readonly KnownPlace[]> {
    return (await this.#get(key, signal)).places;
  }

  /** Writes the place down that a pass is about to work on. Where the document was not read, it is in there. */
  async note(pass: Pass, { target, configDir }: HostPlace): Promise<void> {
    const place = placeOf(pass.workspace, configDir);
    const mark = placeMark(place);
    const keepsFiles = target.keepsFiles?.(configDir) === true;
    const told = keepsFiles ? `${mark}${KEEPS_FILES}` : mark;
    // Another target may have come there, on another kind of volume.
    if (pass.places === undefined && pass.previous.place !== told) await this.read(pass);
    const { places } = pass;
    if (places !== undefined) {
      const old = places.places.find((known) => placeMark(known) === mark);
      const known = { ...place, description: target.description, ...(keepsFiles && { keepsFiles }) };
      if (old === undefined || (old.keepsFiles ?? false) !== keepsFiles) {
        const others = places.places.filter((one) => one !== old);
        await this.#write(pass, places, [...others, known]);
      }
    }
    pass.place = told;
    pass.leftBehind = this.formerOf(pass).map((former) => leftBehind(pass, former, NOT_YET));
  }

  /** Whether what was put in the declared place may come back with another target: of one that is gone only this tells. */
  keepsFiles({ places, workspace }: Pick<Pass, 'places' | 'workspace'>): boolean {
    const mark = this.#markOf(workspace);
    return places?.places.some((known) => known.keepsFiles === true && placeMark(known) === mark) === true;
  }

  /** Every place but the one that is declared. */
  formerOf({ places, workspace }: Pick<Pass, 'places' | 'workspace'>): readonly KnownPlace[] {
    if (places === undefined || places.places.length === 0) return [];
    const mark = this.#markOf(workspace);
    return places.places.filter((known) => placeMark(known) !== mark);
  }

  /** Nothing of ours is in that place any more. */
  async strike(pass: Pass, place: KnownPlace): Promise<void> {
    const { places } = pass;
    if (places !== undefined)
      await this.#write(
        pass,
        places,
        places.places.filter((known) => known !== place),
      );
  }

  /** The workspace is gone for good: nothing of it is remembered. */
  async drop(key: WorkspaceKey, signal: AbortSignal): Promise<void> {
    const { state } = this.#options;
    const document = await state.get(stateKey('places', key), signal);
    if (document !== undefined) await state.remove(stateKey('places', key), document.version, signal);
  }

  #markOf(workspace: Workspace): string {
    const profile = findProfile(this.#options.profiles, workspace.runtime);
    return placeMark(placeOf(workspace, profile?.configDir[targetKind(workspace.target)] ?? ''));
  }

  async #get(key: WorkspaceKey, signal: AbortSignal): Promise<Remembered> {
    const removed = `nobody looks any more where the plugins of ${key} were before`;
    const { data, version } = await readDocument(
      this.#options.state,
      stateKey('places', key),
      placesSchema,
      removed,
      signal,
    );
    return { places: data?.places ?? [], version };
  }

  async #write(pass: Pass, { version }: Remembered, places: readonly KnownPlace[]): Promise<void> {
    const key = stateKey('places', pass.key);
    pass.places = {
      places,
      version: await writeDocument(this.#options.state, key, version, { places }, pass.signal),
    };
  }
}

/** Behind the mark of a place, in a status, where what is there may outlive its target. */
const KEEPS_FILES = '+volume';

function isMarkOf(told: string | undefined, mark: string): boolean {
  return told === mark || told === `${mark}${KEEPS_FILES}`;
}

/** What is remembered then is of another declaration that had the name before, and was meant to leave its plugins lying. */
function isBeforeAnyPass({ previous, workspace }: Pass): boolean {
  return workspace.generation === 1 && previous.place === undefined;
}

const NOT_YET = {
  reason: 'Progressing',
  message: 'what plugset installed there is taken away once the new place is as declared',
} as const;

/** A former place that is not clean, and why; or, where there is no news of it, what was said of it last. */
export function leftBehind(
  { previous }: Pick<Pass, 'previous'>,
  former: KnownPlace,
  news: Omit<LeftBehind, 'place'>,
): LeftBehind {
  const place = describePlace(former);
  const last = news === NOT_YET ? previous.leftBehind?.find((one) => one.place === place) : undefined;
  return last ?? { place, reason: news.reason, message: news.message };
}

function kindChanged({ key, target }: Workspace, other: KnownPlace): Error {
  const [was, is] = [targetKind(other.target), targetKind(target)];
  return terminal(
    'TargetKindChanged',
    `${key} had a ${was} target (${describePlace(other)}) and cannot have a target of kind ${is} now; declare the old one again, or delete the workspace, wait until it is gone, and declare it anew`,
  );
}
