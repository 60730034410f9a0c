import type { Turn } from '../../domain/fence.ts';
import { EMPTY_STATUS, type WorkspaceStatus } from '../../domain/status.ts';
import type { FieldsEntry } from './managed-fields.ts';

/** What we write: the status, and the turn that wrote it. */
export type WrittenStatus = WorkspaceStatus & { readonly fence: Turn };

/** Owner of the fields of a status. It is in every object, so it cannot be another one in another version. */
export const STATUS_MANAGER = 'plugset';

/**
 * What of a status is ours, as it stands there. Others may add conditions and rows of their own, which are theirs to keep: who
 * took them for ours would write every status in every pass to be rid of them. `entries`: who has written what.
 */
export function statusIn(raw: Partial<WrittenStatus> | undefined, entries: readonly FieldsEntry[]): WorkspaceStatus {
  const ours = entries.find(({ manager, operation, subresource }) => {
    return manager === STATUS_MANAGER && operation === 'Apply' && subresource === 'status';
  });
  // What stands in an object that nobody has reported on is a default of its definition.
  if (raw?.fence === undefined && ours === undefined) return EMPTY_STATUS;
  const { fence: _, ...said } = raw ?? {};
  const status: WorkspaceStatus = { ...EMPTY_STATUS, ...said };
  const fields = ours?.fieldsV1?.['f:status'];
  // Restored from a backup, say: then nobody owns anything.
  if (fields === undefined) return status;
  const { 'f:conditions': conditions = {}, 'f:plugins': plugins = {}, 'f:converged': converged = {} } = fields;
  return {
    ...status,
    conditions: status.conditions.filter(({ type }) => `k:${JSON.stringify({ type })}` in conditions),
    plugins: status.plugins.filter(({ name }) => `k:${JSON.stringify({ name })}` in plugins),
    converged: Object.fromEntries(Object.entries(status.converged).filter(([name]) => `f:${name}` in converged)),
  };
}

/** A patch is read as YAML, which takes these for line breaks, or not at all; half a character is no JSON either. */
const UNWRITABLE = /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g;

/** As it can be written, and comes back. */
export function writable(status: WorkspaceStatus): WorkspaceStatus {
  const text = JSON.stringify(status, (_key, value: unknown) =>
    typeof value === 'string' ? writableText(value) : value,
  );
  return JSON.parse(text) as WorkspaceStatus;
}

export function writableText(text: string): string {
  return Buffer.from(text).toString().replaceAll(UNWRITABLE, '\ufffd');
}

/** Without what is empty: applied over something that was not, the API server makes `null` of it, which it then refuses. */
export function withoutEmpty(status: WrittenStatus): Partial<WrittenStatus> {
  const isEmpty = (value: unknown): boolean => typeof value === 'object' && Object.keys(value ?? {}).length === 0;
  return Object.fromEntries(Object.entries(status).filter(([, value]) => !isEmpty(value)));
}
