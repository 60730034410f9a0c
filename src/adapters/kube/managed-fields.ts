import type { KubeMetadata } from './kube-object.ts';

/** Fields by `f:name`, entries of lists by `k:{"key":"value"}`. */
export interface Fields {
  readonly [name: string]: Fields | undefined;
}

/** What one manager owns of an object. */
export interface FieldsEntry {
  readonly manager?: string;
  readonly operation?: string;
  /** `status` where that was written, and not the object itself. */
  readonly subresource?: string;
  /** When it last changed something; whole seconds. */
  readonly time?: string;
  readonly fieldsV1?: Fields;
}

export function entriesOf({ managedFields = [] }: KubeMetadata): readonly FieldsEntry[] {
  return managedFields;
}

/** When somebody last wrote to the spec, Unix milliseconds. Who also writes elsewhere may have done so since. */
export function specWrittenAtMs(entries: readonly FieldsEntry[]): number | undefined {
  const times = entries
    .filter(({ subresource, fieldsV1 }) => subresource === undefined && fieldsV1?.['f:spec'] !== undefined)
    .map(({ time = '' }) => Date.parse(time))
    .filter((time) => !Number.isNaN(time));
  return times.length === 0 ? undefined : Math.max(...times);
}
