import { describe, expect, it } from 'vitest';

import {
  FINALIZER,
  keptFrom,
  loadedFrom,
  type WorkspaceResource,
} from '../../../../src/adapters/kube/workspace-object.ts';
import { writable } from '../../../../src/adapters/kube/workspace-status.ts';
import { EMPTY_STATUS } from '../../../../src/domain/status.ts';
import { DEFAULT_POLICY, REQUESTED_AT_ANNOTATION } from '../../../../src/domain/workspace.ts';
import type { Loaded } from '../../../../src/ports/workspace-store.ts';

const at = '2026-11-23T10:00:00Z';
const spec = { runtime: 'hermes', target: { pod: {} } };

function loaded(declared: object, more: object = {}): Loaded {
  const metadata = { name: 'alice', namespace: 'team-a', uid: 'u1', resourceVersion: '1', creationTimestamp: at };
  const resource: WorkspaceResource = { metadata: { ...metadata, ...more }, spec: declared };
  return loadedFrom(keptFrom(resource, undefined), DEFAULT_POLICY);
}

describe('a custom resource whose list of plugins is not there', () => {
  it('is no empty set: nothing is concluded from it but that somebody has to say it', () => {
    expect(loaded(spec)).toMatchObject({
      kind: 'malformed',
      problems: [
        expect.stringMatching(
          /^workspace\.plugset\.dev\/alice in team-a: spec\.plugins: is missing, so nothing .* apply \[\] once more$/,
        ),
      ],
    });
    expect(loaded({ ...spec, plugins: [] })).toMatchObject({ kind: 'found', workspace: { plugins: [] } });
  });

  it('is deleted like any other, since what it declares says nothing then', () => {
    const deleted = { deletionTimestamp: at, finalizers: [FINALIZER] };
    expect(loaded(spec, deleted)).toMatchObject({ kind: 'found', workspace: { deleting: true, plugins: [] } });
  });
});

it.each(['lines\u2028\u0085', '\ufeffmark', 'half \ud83d', 'plain \u{1f600}'])(
  'a request %j is as the status can echo it, or it would be answered in every pass',
  (asked) => {
    const found = loaded({ ...spec, plugins: [] }, { annotations: { [REQUESTED_AT_ANNOTATION]: asked } });
    const heard = found.kind === 'found' ? found.workspace.annotations[REQUESTED_AT_ANNOTATION] : undefined;
    expect(heard).toBeDefined();
    expect(writable({ ...EMPTY_STATUS, lastHandledReconcileAt: heard }).lastHandledReconcileAt).toBe(heard);
  },
);
