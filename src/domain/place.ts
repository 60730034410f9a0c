import { z } from 'zod';

import { canonicalJson, sha256, shortDigest } from './digest.ts';
import { targetKind, workspaceSpecSchema, type Workspace } from './workspace.ts';

/*
 * Where the plugins of a workspace may lie: what it declared when something was last put there. A document of
 * `ControllerState`, and no part of the status, which others may write: what stands here is removed, as root where need be.
 */

const placeSchema = z.object({
  target: workspaceSpecSchema.shape.target,
  /** The platform's id then, by which a target without coordinates of its own is found. */
  id: z.string(),
  runtime: z.string(),
  configDir: z.string(),
});

export type Place = z.infer<typeof placeSchema>;

export const placesSchema = z.object({
  /** Every place with something of ours on it, as far as is known; the oldest first. */
  places: z.array(
    placeSchema.extend({
      description: z.string(),
      /** What is there may outlive its target, and come back with the next one. */
      keepsFiles: z.literal(true).optional(),
    }),
  ),
});

/** A place where something was put, and what its target was called then. */
export type KnownPlace = z.infer<typeof placesSchema>['places'][number];

/** What is remembered of the places of one workspace, and the version of the document. */
export interface Remembered {
  readonly places: readonly KnownPlace[];
  readonly version: string | undefined;
}

export function placeOf({ target, id, runtime }: Workspace, configDir: string): Place {
  return { target, id, runtime, configDir };
}

/** Equal for equal places. Not for two runtimes that look into the same directory: nothing moves between those. */
export function placeMark({ target, id, configDir }: Place): string {
  return shortDigest(sha256(canonicalJson({ target, id, configDir })));
}

/** The workspace as it was declared when its plugins were there. */
export function workspaceAt(workspace: Workspace, { target, id, runtime }: Place): Workspace {
  return { ...workspace, target, id, runtime };
}

/** `container ws-alice on engine default, /configs`. */
export function describePlace({ description, configDir }: Pick<KnownPlace, 'description' | 'configDir'>): string {
  return configDir === '.' ? description : `${description}, ${configDir}`;
}

/** The first place of another kind of target than the workspace has now. */
export function placeOfOtherKind(workspace: Workspace, places: readonly KnownPlace[]): KnownPlace | undefined {
  return places.find(({ target }) => targetKind(target) !== targetKind(workspace.target));
}
