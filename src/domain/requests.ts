import { z } from 'zod';

import type { Requests, WorkspaceManifest } from './workspace.ts';

/*
 * What people ask for (a pass, an approval) where the declaration itself is not plugset's to write: kept beside it, and
 * read as if it stood in its annotations.
 */

export const requestsSchema = z.record(
  z.string(),
  z.object({
    value: z.string(),
    /** The annotation in the declaration when the request was made: a later one there wins. */
    over: z.string().optional(),
  }),
);

/** What people asked for, by annotation. */
export type AskedFor = z.infer<typeof requestsSchema>;

/** What was asked for before, with new requests over it. */
export function askedAfter(before: AskedFor, requests: Requests, manifest: WorkspaceManifest | undefined): AskedFor {
  const fresh = Object.entries(requests).map(([name, value]) => {
    const over = manifest?.metadata.annotations?.[name];
    return [name, { value, ...(over === undefined ? {} : { over }) }];
  });
  return { ...before, ...Object.fromEntries(fresh) };
}

/** The declaration with what was asked for since it was written among its annotations. */
export function withRequests(manifest: WorkspaceManifest, asked: AskedFor): WorkspaceManifest {
  const written = manifest.metadata.annotations;
  const fresh = Object.entries(asked).filter(([name, request]) => request.over === written?.[name]);
  if (fresh.length === 0) return manifest;
  const annotations = { ...written, ...Object.fromEntries(fresh.map(([name, { value }]) => [name, value])) };
  return { ...manifest, metadata: { ...manifest.metadata, annotations } };
}
