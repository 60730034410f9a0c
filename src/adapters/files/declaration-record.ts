import { z } from 'zod';

import { canonicalJson } from '../../domain/digest.ts';
import { transient } from '../../domain/errors.ts';
import type { WorkspaceKey } from '../../domain/name.ts';
import type { WorkspaceStatus } from '../../domain/status.ts';
import { requestsSchema, withRequests, type AskedFor } from '../../domain/requests.ts';
import {
  REQUESTED_AT_ANNOTATION,
  workspaceFrom,
  workspaceSchema,
  type FleetPolicy,
  type Policy,
} from '../../domain/workspace.ts';
import type { Loaded } from '../../ports/workspace-store.ts';
import type { Declared } from './read-snapshot.ts';

/*
 * What the state directory remembers of a declaration: what a directory of YAML cannot say (generation, since when) and
 * what it can no longer say once the document is gone.
 */

const recordSchema = z.object({
  generation: z.int().min(1),
  declaredAt: z.iso.datetime(),
  /** Of what the generation stands for. */
  digest: z.string(),
  /** Since when the document is gone and the target not yet clean. */
  deletedAt: z.iso.datetime().optional(),
  /** The last usable declaration and where its plugins stood; none if there never was a usable one. */
  manifest: workspaceSchema.optional(),
  pluginOrigins: z.array(z.string()),
});

export type DeclarationRecord = z.infer<typeof recordSchema>;

export function parseRecord(key: WorkspaceKey, value: unknown): DeclarationRecord | undefined {
  return parseOwn(recordSchema, `workspaces/${key}.json`, value);
}

export function parseRequests(key: WorkspaceKey, value: unknown): AskedFor {
  return parseOwn(requestsSchema, `requests/${key}.json`, value) ?? {};
}

/** The record after a look at the directory; the same object when that says nothing new. */
export function recordAfter(
  record: DeclarationRecord | undefined,
  declared: Declared,
  declaredAtMs: number,
): DeclarationRecord {
  const usable = declared.kind === 'manifest' ? declared : record;
  const last = {
    ...(usable?.manifest === undefined ? {} : { manifest: usable.manifest }),
    pluginOrigins: [...(usable?.pluginOrigins ?? [])],
  };
  if (record === undefined || record.digest !== declared.digest || record.deletedAt !== undefined) {
    const declaredAt = new Date(declaredAtMs).toISOString();
    return { generation: (record?.generation ?? 0) + 1, declaredAt, digest: declared.digest, ...last };
  }
  return canonicalJson(record.manifest) === canonicalJson(last.manifest) ? record : { ...record, ...last };
}

/** What is known of one key. */
export interface Knowledge {
  readonly key: WorkspaceKey;
  readonly declared: Declared | undefined;
  readonly record: DeclarationRecord | undefined;
  readonly asked: AskedFor;
  readonly status: WorkspaceStatus;
  readonly defaultPolicy: FleetPolicy;
  readonly nowMs: number;
}

export function loadedFrom(known: Knowledge): Loaded {
  const { key, declared, status } = known;
  // A record that somebody else has not written yet is what he will write.
  const record = declared === undefined ? known.record : recordAfter(known.record, declared, known.nowMs);
  if (record === undefined) return { kind: 'absent' };
  if (declared?.kind === 'malformed') {
    const { problems } = declared;
    const requestedAt = known.asked[REQUESTED_AT_ANNOTATION]?.value;
    return { kind: 'malformed', key, generation: record.generation, problems, deleting: false, requestedAt, status };
  }
  const source = declared ?? record;
  if (source.manifest === undefined) return { kind: 'absent' };
  const { pluginOrigins } = source;
  const workspace = workspaceFrom(withRequests(source.manifest, known.asked), {
    generation: record.generation,
    declaredAtMs: Date.parse(record.deletedAt ?? record.declaredAt),
    deleting: record.deletedAt !== undefined,
    defaultPolicy: known.defaultPolicy,
    originOf: (index) => pluginOrigins[index] ?? key,
  });
  return { kind: 'found', workspace, status };
}

/** The deletion policy of the last usable declaration. */
export function deletionPolicy(record: DeclarationRecord, defaultPolicy: Policy): Policy['deletion'] {
  return record.manifest?.spec.policy?.deletion ?? defaultPolicy.deletion;
}

function parseOwn<T>(schema: z.ZodType<T>, file: string, value: unknown): T | undefined {
  if (value === undefined) return undefined;
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw transient(
    'StoreUnavailable',
    `${file} in the state directory is not what plugset writes; remove it to begin anew`,
    parsed.error,
  );
}
