import type { z } from 'zod';

/** One thing that is wrong with a document, and where. */
export interface Problem {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

type Issue = z.core.$ZodIssue;

/** What a schema found wrong, flat. Of a union, only the branch that was meant is spoken of. */
export function problemsOf(error: z.ZodError): readonly Problem[] {
  return error.issues.flatMap((issue) => flatten(issue, []));
}

function flatten(issue: Issue, prefix: readonly (string | number)[]): readonly Problem[] {
  const path = [...prefix, ...issue.path.map((part) => (typeof part === 'symbol' ? String(part) : part))];
  if (issue.code === 'invalid_union') {
    // A branch that refuses a key of the object itself is about something else: {docker: …} read as {directory: …}.
    const meant = issue.errors.filter(
      (branch) => !branch.some((inner) => inner.code === 'unrecognized_keys' && inner.path.length === 0),
    );
    const [only] = meant;
    if (only !== undefined && meant.length === 1) return only.flatMap((inner) => flatten(inner, path));
  }
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({ path: [...path, key], message: 'is not a known key' }));
  }
  return [{ path, message: issue.code === 'invalid_union' ? 'must be exactly one of the known kinds' : issue.message }];
}
