import { REQUEST_ANNOTATIONS } from './workspace.ts';

/*
 * What `plugset status -o yaml` and Kubernetes print beside what people declare. Whoever applies such a text means the
 * rest of it, as with kubectl; in a file under version control it is a mistake, and said to be one.
 */

const OF_THE_OBJECT: ReadonlySet<string> = new Set(['status']);
const OF_METADATA: ReadonlySet<string> = new Set([
  'generation',
  'deleting',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'resourceVersion',
  'uid',
  'selfLink',
  'managedFields',
]);

export function isReadOnlyField(path: readonly PropertyKey[]): boolean {
  const [first, second] = path.map(String);
  if (path.length === 1) return OF_THE_OBJECT.has(first ?? '');
  return path.length === 2 && first === 'metadata' && OF_METADATA.has(second ?? '');
}

/** What people asked for one time, by command: no part of what they declare. */
const REQUESTS: ReadonlySet<string> = new Set(REQUEST_ANNOTATIONS);

/** A document without them, and without what was asked for one time; anything that is no map as it is. */
export function withoutReadOnlyFields(document: unknown): unknown {
  if (!isMap(document)) return document;
  const kept = without(document, OF_THE_OBJECT);
  if (!isMap(kept['metadata'])) return kept;
  const metadata = without(kept['metadata'], OF_METADATA);
  if (!isMap(metadata['annotations'])) return { ...kept, metadata };
  const { annotations, ...rest } = metadata;
  const left = without(annotations, REQUESTS);
  return { ...kept, metadata: Object.keys(left).length === 0 ? rest : { ...rest, annotations: left } };
}

type Plain = Readonly<Record<string, unknown>>;

function without(map: Plain, keys: ReadonlySet<string>): Plain {
  return Object.fromEntries(Object.entries(map).filter(([key]) => !keys.has(key)));
}

function isMap(value: unknown): value is Plain {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
