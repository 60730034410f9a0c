import type { Filter } from './aws-region.ts';
import type { Instance } from './instance.ts';

/** Which instances somebody asks for: one by its id, or all that carry these tags. */
export type InstanceQuery = { readonly instanceId: string } | { readonly tags: Readonly<Record<string, string>> };

/** AWS takes no more in one request, those of all its filters together. */
const VALUES_PER_REQUEST = 200;
/** AWS takes none that is longer, though the value of a tag may be. */
const LONGEST_VALUE = 255;

export function keyOf(query: InstanceQuery): string {
  if ('instanceId' in query) return query.instanceId;
  return JSON.stringify(Object.entries(query.tags).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** For people: `instance i-…`, `tags role=x, team=a`. */
export function describeQuery(query: InstanceQuery): string {
  if ('instanceId' in query) return `instance ${query.instanceId}`;
  const tags = Object.entries(query.tags).map(([key, value]) => `${key}=${value}`);
  return `tags ${tags.toSorted().join(', ')}`;
}

export function fits(instance: Instance, query: InstanceQuery): boolean {
  if ('instanceId' in query) return instance.id === query.instanceId;
  return Object.entries(query.tags).every(([key, value]) => instance.tags[key] === value);
}

/**
 * Filters that let through what fits any of the queries, and perhaps more: tags are joined key by key. Ids go as a filter
 * too, because the parameter for ids fails as a whole when one of them is unknown.
 */
export function filtersOf(queries: readonly InstanceQuery[]): Filter[] {
  const values = new Map<string, Set<string>>();
  for (const [name, value] of queries.flatMap(conditionsOf)) {
    values.set(name, (values.get(name) ?? new Set()).add(value));
  }
  return [...values].map(([Name, Values]) => ({ Name, Values: [...Values] }));
}

/** Those that can be asked in one request together: of one form, and no more than it has room for. */
export function perRequest<T extends { readonly query: InstanceQuery }>(
  asked: readonly T[],
): readonly (readonly T[])[] {
  const requests: T[][] = [];
  const latest = new Map<string, { readonly request: T[]; conditions: ReadonlySet<string> }>();
  for (const one of asked) {
    const form = formOf(one.query);
    const own = conditionsOf(one.query).map((condition) => JSON.stringify(condition));
    const last = latest.get(form);
    const together = new Set([...(last?.conditions ?? []), ...own]);
    if (last !== undefined && together.size <= VALUES_PER_REQUEST) {
      last.request.push(one);
      last.conditions = together;
    } else {
      const request = [one];
      requests.push(request);
      latest.set(form, { request, conditions: new Set(own) });
    }
  }
  return requests;
}

function formOf(query: InstanceQuery): string {
  return 'instanceId' in query ? 'id' : JSON.stringify(Object.keys(query.tags).toSorted());
}

function conditionsOf(query: InstanceQuery): readonly (readonly [name: string, value: string])[] {
  if ('instanceId' in query) return [['instance-id', query.instanceId]];
  return Object.entries(query.tags).map(([key, value]) => [`tag:${key}`, patternOf(value)]);
}

/** In a filter `*` and `?` stand for anything, which serves for the end of a value that is too long. */
function patternOf(value: string): string {
  const whole = literal(value);
  if (whole.length <= LONGEST_VALUE) return whole;
  let start = value.slice(0, LONGEST_VALUE - 1);
  while (literal(start).length >= LONGEST_VALUE) start = start.slice(0, -1);
  return `${literal(start)}*`;
}

function literal(value: string): string {
  return value.replaceAll(/[\\*?]/g, '\\$&');
}
