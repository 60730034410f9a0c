import { describe, expect, it } from 'vitest';

import type { FieldsEntry } from '../../../../src/adapters/kube/managed-fields.ts';
import {
  statusIn,
  withoutEmpty,
  writable,
  type WrittenStatus,
} from '../../../../src/adapters/kube/workspace-status.ts';
import { EMPTY_STATUS, type WorkspaceStatus } from '../../../../src/domain/status.ts';

const at = '2026-11-23T10:00:00Z';
const condition = (type: string): object => ({
  ...{ type, status: 'True', reason: 'Succeeded', message: '', observedGeneration: 1, lastTransitionTime: at },
});
const row = (name: string): object => ({
  ...{ name, state: 'Installed', managed: true, reason: 'Succeeded', message: '', since: at },
});
const written = {
  ...EMPTY_STATUS,
  observedGeneration: 1,
  conditions: [condition('Ready'), condition('Healthy')],
  plugins: [row('theirs'), row('ours')],
  converged: { ours: 'sha256:1', theirs: 'sha256:2' },
  fence: { epoch: 1, n: 2 },
} as unknown as WrittenStatus;

const ours: FieldsEntry = {
  manager: 'plugset',
  operation: 'Apply',
  subresource: 'status',
  fieldsV1: {
    'f:status': {
      'f:conditions': { 'k:{"type":"Ready"}': { '.': {} } },
      'f:plugins': { 'k:{"name":"ours"}': { '.': {} } },
      'f:converged': { 'f:ours': {} },
    },
  },
};

describe('a status in an object', () => {
  it('that nobody has written is the empty one, and no copy of it', () => {
    expect(statusIn({ observedGeneration: -1 }, [])).toBe(EMPTY_STATUS);
    expect(statusIn(undefined, [])).toBe(EMPTY_STATUS);
    expect(statusIn({ observedGeneration: 7 }, [{ ...ours, manager: 'somebody' }])).toBe(EMPTY_STATUS);
  });

  it('is what is ours of it, without its fence', () => {
    const { fence: _, ...rest } = written;
    expect(statusIn(written, [{ ...ours, operation: 'Update' }, ours])).toEqual({
      ...rest,
      conditions: [condition('Ready')],
      plugins: [row('ours')],
      converged: { ours: 'sha256:1' },
    });
  });

  it('is the whole of it where nobody owns anything, as after a restore', () => {
    const { fence: _, ...rest } = written;
    expect(statusIn(written, [])).toEqual(rest);
  });

  it('from an older build lacks nothing', () => {
    expect(statusIn({ summary: '1/1', fence: { epoch: 1, n: 1 } }, [])).toEqual({ ...EMPTY_STATUS, summary: '1/1' });
  });
});

describe('a status that is written', () => {
  it('has no character that YAML reads otherwise, and leaves all others', () => {
    const message = 'half \ud83d, lines\u2028\u0085, mark\ufeff; whole \u{1f600}\t\n\u0000½';
    const status = { ...EMPTY_STATUS, summary: message } satisfies WorkspaceStatus;
    expect(writable(status).summary).toBe('half \ufffd, lines\ufffd\ufffd, mark\ufffd; whole \u{1f600}\t\n\u0000½');
  });

  it('has nothing that is empty', () => {
    expect(withoutEmpty({ ...EMPTY_STATUS, fence: { epoch: 1, n: 1 } })).toEqual({
      ...{
        observedGeneration: -1,
        summary: '0/0',
        target: '',
        corrective: 0,
        intentional: 0,
        fence: { epoch: 1, n: 1 },
      },
    });
  });
});
