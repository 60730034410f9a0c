import { describe, expect, test } from 'vitest';

import { removeDocuments, upsertDocument } from '../../../../src/adapters/files/edit-manifest.ts';
import { parseWorkspaceFile } from '../../../../src/adapters/files/parse-workspace-file.ts';
import { workspaceKey } from '../../../../src/domain/name.ts';
import type { WorkspaceManifest } from '../../../../src/domain/workspace.ts';

const TEXT = `# the team of ada
apiVersion: plugset.dev/v1alpha1
kind: Workspace
metadata: {name: ada, namespace: team-a}   # ada's own
spec:
    runtime: claude-code
    target: {external: {}}
    plugins:
        # reviewed by bob
        - name: one
          source: "local://one"   # pinned below
          digest: sha256:${'0'.repeat(64)}
        - name: two   # to be dropped
          source: local://two
---
# grace, in her own style
{apiVersion: plugset.dev/v1alpha1, kind: Workspace, metadata: {name: grace},
   spec: {runtime:   "hermes", target: {docker: {}}, plugins: []}}
`;

function ada(plugins: WorkspaceManifest['spec']['plugins']): WorkspaceManifest {
  return {
    apiVersion: 'plugset.dev/v1alpha1',
    kind: 'Workspace',
    metadata: { name: 'ada', namespace: 'team-a' },
    spec: { runtime: 'claude-code', target: { external: {} }, plugins },
  };
}

function manifests(text: string): readonly unknown[] {
  return parseWorkspaceFile('w.yaml', text).documents.map((one) => (one.kind === 'manifest' ? one.manifest : one));
}

describe('upsertDocument', () => {
  test('changes what differs, and keeps comments and the other documents as they were', () => {
    const wanted = ada([
      { name: 'three', source: 'local://three' },
      { name: 'one', source: 'local://uno' },
    ]);
    const text = upsertDocument('w.yaml', TEXT, wanted);
    expect(manifests(text)[0]).toEqual(wanted);
    expect(text).toContain('# the team of ada');
    expect(text).toContain("# ada's own");
    expect(text).toContain('# reviewed by bob');
    expect(text).toContain('# pinned below');
    expect(text).not.toContain('two');
    expect(text.slice(text.indexOf('---'))).toBe(TEXT.slice(TEXT.indexOf('---')));
  });

  test('a document behind another one is found by its key', () => {
    const wanted = { ...ada([]), metadata: { name: 'grace', namespace: 'default', labels: { org: 'acme' } } };
    const text = upsertDocument('w.yaml', TEXT, wanted);
    expect(text.slice(0, text.indexOf('---'))).toBe(TEXT.slice(0, TEXT.indexOf('---')));
    expect(text).toContain('# grace, in her own style');
    expect(manifests(text)[1]).toEqual(wanted);
  });

  test.each(['', TEXT, TEXT.trimEnd(), '# only a comment\n'])('a new one goes to the end of %#', (before) => {
    const wanted = { ...ada([]), metadata: { name: 'new' } };
    const text = upsertDocument('w.yaml', before, wanted);
    expect(text.startsWith(before)).toBe(true);
    expect(manifests(text)).toEqual([...manifests(before), wanted]);
  });

  test.each([
    ['above it', (text: string) => `# owner: team blue\n${text}`],
    ['above it, with a gap', (text: string) => `# owner: team blue\n\n${text}`],
    ['above a separator', (text: string) => `# owner: team blue\n---\n${text}`],
    ['below a separator', (text: string) => `---\n# owner: team blue\n${text}`],
    ['between two', (text: string) => `${TEXT}---\n# owner: team blue\n${text}`],
  ])('a comment %s stands there once, however often it is edited', (_, around) => {
    const named = (plugins: Parameters<typeof ada>[0]) => ({ ...ada(plugins), metadata: { name: 'new' } });
    let text = around(upsertDocument('w.yaml', '', named([])));
    for (const source of ['local://one', 'local://two', 'local://three'])
      text = upsertDocument('w.yaml', text, named([{ name: 'one', source }]));
    expect(text.match(/# owner: team blue/g)).toHaveLength(1);
    expect(manifests(text).at(-1)).toEqual(named([{ name: 'one', source: 'local://three' }]));
  });

  test('what it wrote it finds unchanged', () => {
    const wanted = ada([
      { name: 'one', source: 'local://one', config: { a: [1, { b: '2' }], text: 'two\nlines: "x"\n' } },
    ]);
    const text = upsertDocument('w.yaml', '', wanted);
    expect(upsertDocument('w.yaml', text, wanted)).toBe(text);
    expect(manifests(text)).toEqual([wanted]);
  });

  test('a file that is no YAML is not touched', () => {
    expect(() => upsertDocument('w.yaml', `${TEXT}---\n]`, ada([]))).toThrow(
      expect.objectContaining({ class: 'terminal', reason: 'InvalidSpec', message: expect.stringContaining('w.yaml') }),
    );
  });

  test('an alias that other places share is replaced, not written through', () => {
    const shared = TEXT.replace('source: "local://one"', 'source: &s "local://one"').replace(
      'source: local://two',
      'source: *s',
    );
    const wanted = ada([{ name: 'two', source: 'local://else' }]);
    expect(manifests(upsertDocument('w.yaml', shared, wanted))[0]).toEqual(wanted);
  });
});

describe('removeDocuments', () => {
  test('takes out one document and leaves the text of the others', () => {
    expect(removeDocuments('w.yaml', TEXT, workspaceKey('default', 'grace'))).toBe(TEXT.slice(0, TEXT.indexOf('---')));
    const rest = removeDocuments('w.yaml', TEXT, workspaceKey('team-a', 'ada'));
    expect(manifests(rest ?? '')).toEqual([manifests(TEXT)[1]]);
    expect(rest).toContain('# grace, in her own style');
  });

  test('says when none is left', () => {
    const [first = ''] = TEXT.split('---\n');
    expect(removeDocuments('w.yaml', first, workspaceKey('team-a', 'ada'))).toBeUndefined();
    expect(removeDocuments('w.yaml', `${first}---\n# a thought\n`, workspaceKey('team-a', 'ada'))).toBeUndefined();
  });
});
