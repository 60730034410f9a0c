import { createReadStream } from 'node:fs';

import { parse } from 'yaml';
import { z } from 'zod';

import { parseWorkspaceKey, type WorkspaceKey } from '../domain/name.ts';
import { CliError, type CliContext } from './context.ts';
import { unreadable } from './declarations.ts';

/** A plan that somebody has looked at, and agrees to as it stands there. */
export interface PrintedPlan {
  readonly workspace: WorkspaceKey;
  readonly id: string;
}

const heldSchema = z.object({ id: z.string().optional(), held: z.object({ reason: z.string() }).optional() });
/** What of `plugset plan -o json` says which plan waits for an approval. */
const planSchema = heldSchema.extend({
  kind: z.literal('Plan'),
  workspace: z.object({ namespace: z.string(), name: z.string() }),
  former: z.array(heldSchema).optional(),
});
const printedSchema = z.union([z.object({ kind: z.literal('List'), items: z.array(planSchema) }), planSchema]);

const WAITS_FOR_APPROVAL: ReadonlySet<string> = new Set(['AwaitingApproval', 'PruneHeld']);
const MAX_BYTES = 64 * 1024 * 1024;

/** The plans in what `plugset plan -o json` or `-o yaml` printed that wait for an approval; others need none. */
export async function readPrintedPlans(context: CliContext, path: string): Promise<readonly PrintedPlan[]> {
  const name = path === '-' ? 'stdin' : path;
  const parsed = printedSchema.safeParse(plainValue(await readText(context, path, name)));
  if (!parsed.success) throw new CliError(`${name}: is not what \`plugset plan -o json\` prints`);
  const plans = parsed.data.kind === 'List' ? parsed.data.items : [parsed.data];
  return plans.flatMap(({ workspace: { namespace, name: its }, former = [], ...plan }) => {
    const workspace = parseWorkspaceKey(`${namespace}/${its}`);
    if (workspace === undefined) throw new CliError(`${name}: names no workspace: ${JSON.stringify(its)}`);
    // One at a time: what waits in a former place waits for the declared one.
    const [id] = [plan, ...former].flatMap(waitingId);
    return id === undefined ? [] : [{ workspace, id }];
  });
}

function waitingId({ id, held }: z.infer<typeof heldSchema>): readonly string[] {
  return id !== undefined && held !== undefined && WAITS_FOR_APPROVAL.has(held.reason) ? [id] : [];
}

async function readText(context: CliContext, path: string, name: string): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const chunk of path === '-' ? context.stdin : (createReadStream(path) as AsyncIterable<Uint8Array>)) {
      context.signal.throwIfAborted();
      parts.push(chunk);
      bytes += chunk.byteLength;
      if (bytes > MAX_BYTES) throw new CliError(`${name}: larger than 64 MiB; refused`);
    }
  } catch (error) {
    throw unreadable(name, error);
  }
  return Buffer.concat(parts).toString('utf8');
}

/** `undefined`: neither JSON nor YAML. */
function plainValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    try {
      return parse(text);
    } catch {
      return undefined;
    }
  }
}
