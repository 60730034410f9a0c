import { describe, expect, test } from 'vitest';

import { allProblems, parseWorkspaceFile } from '../../../../src/adapters/files/parse-workspace-file.ts';

const HEAD = 'apiVersion: plugset.dev/v1alpha1\nkind: Workspace\n';

function problems(text: string): readonly string[] {
  return allProblems(parseWorkspaceFile('w.yaml', text));
}

/** A declaration that is right up to `spec.plugins`, whose value starts at line 7. */
function workspace(name: string, rest = 'plugins: []'): string {
  return `${HEAD}metadata: {name: ${name}, namespace: team-a}\nspec:\n  runtime: claude-code\n  target: {external: {}}\n  ${rest}\n`;
}

describe('what is right', () => {
  test('several documents, comments and empty ones between them', () => {
    const text = `# fleet\n---\n${workspace('alice', 'plugins:\n  - name: one\n    source: one\n  - {name: two, source: two}')}---\n---\n# nothing\n---\n${workspace('bob')}`;
    const file = parseWorkspaceFile('fleet/team.yaml', text);
    expect(file).toMatchObject({ problems: [], isPartial: false });
    expect(file.documents).toMatchObject([
      {
        kind: 'manifest',
        key: 'team-a/alice',
        origin: 'fleet/team.yaml:3',
        pluginOrigins: ['fleet/team.yaml:10', 'fleet/team.yaml:12'],
      },
      { kind: 'manifest', key: 'team-a/bob', origin: 'fleet/team.yaml:17' },
    ]);
  });

  test.each(['', '\n', '# only a comment\n', '---\n', '---\n...\n'])('no document in %j', (text) => {
    expect(parseWorkspaceFile('w.yaml', text)).toEqual({ documents: [], problems: [], isPartial: false });
  });

  test('anchors, and a plugin that stands behind an alias', () => {
    const text = workspace('alice', 'plugins:\n  - &one {name: one, source: one, config: {a: &a [1], b: *a}}');
    expect(parseWorkspaceFile('w.yaml', text).documents).toMatchObject([
      { manifest: { spec: { plugins: [{ config: { a: [1], b: [1] } }] } } },
    ]);
  });

  test('yes is a text, as in YAML 1.2, whatever a directive says', () => {
    const labels = (head: string): string =>
      `${head}${HEAD}metadata: {name: alice, labels: {on: yes}}\nspec: {runtime: r, target: {external: {}}, plugins: []}\n`;
    expect(problems(labels(''))).toEqual([]);
    expect(problems(labels('%YAML 1.1\n---\n'))).toEqual([]);
  });
});

describe('what is wrong is told with file, line and column', () => {
  test.each<[string, string, readonly string[]]>([
    [
      'a missing field',
      workspace('a').replace('  runtime: claude-code\n', ''),
      ['w.yaml:4:1: spec.runtime: is required'],
    ],
    [
      'an unknown key',
      workspace('a').replace('runtime', 'runtme'),
      [
        'w.yaml:4:1: spec.runtime: is required',
        'w.yaml:5:3: spec.runtme: unknown key; allowed here: id, runtime, target, plugins, policy, suspend',
      ],
    ],
    [
      'an unknown key of a plugin',
      workspace('a', 'plugins: [{name: x, source: x, sorce: y}]'),
      ['w.yaml:7:34: spec.plugins[0].sorce: unknown key; allowed here: name, source, digest, config'],
    ],
    [
      'a plugin without a source',
      workspace('a', 'plugins:\n  - name: x'),
      ['w.yaml:8:5: spec.plugins[0].source: is required'],
    ],
    ['a wrong type', workspace('a', 'plugins: none'), ['w.yaml:7:12: spec.plugins: must be a list']],
    [
      'a number for a text',
      workspace('a', 'plugins: [{name: x, source: 1.0}]'),
      ['w.yaml:7:31: spec.plugins[0].source: must be a text (put a number or a date in quotes)'],
    ],
    [
      'a word that is not allowed',
      workspace('a', 'plugins: []\n  policy: {drift: Of}'),
      ['w.yaml:8:19: spec.policy.drift: must be one of Off, Warn, Enforce'],
    ],
    [
      'no kind of target',
      workspace('a').replace('{external: {}}', '{}'),
      ['w.yaml:6:11: spec.target: must have exactly one of the keys docker, directory, ssh, ec2, pod, external'],
    ],
    [
      'an unknown kind of target',
      workspace('a').replace('external', 'dcoker'),
      ['w.yaml:6:11: spec.target: must have exactly one of the keys docker, directory, ssh, ec2, pod, external'],
    ],
    [
      'two kinds of target',
      workspace('a').replace('{external: {}}', '{external: {}, docker: {}}'),
      ['w.yaml:6:11: spec.target: must have exactly one of the keys docker, directory, ssh, ec2, pod, external'],
    ],
    [
      'a typo inside the target',
      workspace('a').replace('external: {}', 'docker: {contaner: x}'),
      ['w.yaml:6:21: spec.target.docker.contaner: unknown key; allowed here: container, engine'],
    ],
    [
      'a relative path',
      workspace('a').replace('external: {}', 'directory: {path: x}'),
      ['w.yaml:6:30: spec.target.directory.path: must be an absolute path'],
    ],
    [
      'a plugin declared twice',
      workspace('a', 'plugins: [{name: x, source: x}, {name: x, source: y}]'),
      ['w.yaml:7:42: spec.plugins[1].name: plugin x is declared twice'],
    ],
    [
      'a key that stands twice',
      workspace('a', 'plugins: []\n  plugins: []'),
      ['w.yaml:8:3: the key "plugins" stands here twice'],
    ],
    [
      'another API version',
      workspace('a').replace('v1alpha1', 'v9'),
      ['w.yaml:1:13: apiVersion: must be plugset.dev/v1alpha1'],
    ],
    ['a tag', workspace('a', 'plugins: !!python/object []'), [expect.stringMatching(/^w\.yaml:7:12: Unresolved tag/)]],
    [
      'an alias without an anchor',
      workspace('a', 'plugins: *none'),
      ['w.yaml:7:12: there is no anchor &none before this alias'],
    ],
    ['an alias of itself', workspace('a', 'plugins: &p [*p]'), ['w.yaml:7:16: the alias *p contains itself']],
    ['a key that is a list', workspace('a', 'plugins: []\n  ? [x]\n  : y'), ['w.yaml:8:5: a key must be plain text']],
    [
      'an infinity',
      workspace('a', 'plugins: [{name: x, source: x, config: {n: .inf}}]'),
      ['w.yaml:7:46: must be a finite number'],
    ],
  ])('%s', (_, text, expected) => {
    const file = parseWorkspaceFile('w.yaml', text);
    expect(file.documents).toMatchObject([{ kind: 'malformed', key: 'team-a/a' }]);
    expect(allProblems(file)).toEqual(expected);
    expect(file.isPartial).toBe(false);
  });

  test('a document that names no workspace is a problem of the file, which may declare more than we know', () => {
    for (const text of [
      'hello\n',
      '[1, 2]\n',
      `${HEAD}spec: {}\n`,
      workspace('"../x"'),
      workspace('a').replace('team-a', '1'),
    ]) {
      const file = parseWorkspaceFile('w.yaml', text);
      expect(file).toMatchObject({ documents: [], isPartial: true });
      expect(file.problems[0]).toMatch(/^w\.yaml:\d+:\d+: /);
    }
  });

  test('a syntax error keeps the key if it can, and the file counts as partly read', () => {
    const file = parseWorkspaceFile('w.yaml', workspace('alice', 'plugins: [{name: x, source: "x}]'));
    expect(file).toMatchObject({ isPartial: true, documents: [{ kind: 'malformed', key: 'team-a/alice' }] });
    expect(file.problems[0]).toMatch(/^w\.yaml:\d+:\d+: /);
  });

  test('I-59: one bad document among good ones fails alone', () => {
    const file = parseWorkspaceFile(
      'w.yaml',
      [workspace('a'), workspace('b', 'plugins: 1'), workspace('c')].join('---\n'),
    );
    expect(file.documents.map(({ kind, key }) => `${kind} ${key}`)).toEqual([
      'manifest team-a/a',
      'malformed team-a/b',
      'manifest team-a/c',
    ]);
    expect(allProblems(file)).toEqual(['w.yaml:15:12: spec.plugins: must be a list']);
    expect(file.isPartial).toBe(false);
  });

  test('another mistake is another digest', () => {
    const digest = (text: string): unknown =>
      parseWorkspaceFile('w.yaml', text).documents.flatMap((doc) => (doc.kind === 'malformed' ? [doc.digest] : []));
    expect(digest(workspace('a', 'plugins: 1'))).not.toEqual(digest(workspace('a', 'plugins: 2')));
    expect(digest(`---\n${workspace('a', 'plugins: 1')}`)).toEqual(
      digest(`---\n${workspace('a', 'plugins: 1')}---\n${workspace('b')}`),
    );
  });
});

describe('what is hostile is refused with one message, in bounded time', () => {
  test('a bomb of aliases', () => {
    const levels = Array.from(
      { length: 12 },
      (_, index) =>
        `    l${index}: &l${index} [${
          index === 0
            ? 'x'
            : Array(9)
                .fill(`*l${index - 1}`)
                .join(', ')
        }]`,
    );
    const text = workspace('bomb', `plugins:\n  - name: x\n    source: x\n    config:\n  ${levels.join('\n  ')}`);
    expect(problems(text)).toEqual(['w.yaml:1:1: the aliases expand to too much; refused']);
    expect(parseWorkspaceFile('w.yaml', text).documents).toMatchObject([{ kind: 'malformed', key: 'team-a/bomb' }]);
  });

  test('more than 1 MiB', () => {
    expect(problems(`#${'x'.repeat(1024 * 1024)}`)).toEqual(['w.yaml:1:1: larger than 1 MiB; refused']);
  });

  // At 2000 levels the package ends the whole process.
  test.each([
    '['.repeat(500_000),
    '- '.repeat(500_000),
    '{a: '.repeat(200_000),
    '? '.repeat(500_000),
    `a: ${'['.repeat(2000)}`,
  ])('deep nesting %#', (text) => {
    expect(problems(text)).toEqual(['w.yaml:1:1: nested more than 100 levels deep; refused']);
  });

  test.each(['..', '.', 'a b', "a'b", 'a"b', '$(id)', 'a/b', 'a\0b', '-rf', 'x'.repeat(129)])(
    'a plugin named %j: one problem, and the name is not repeated',
    (name) => {
      const file = parseWorkspaceFile(
        'w.yaml',
        workspace('a', `plugins: [{name: ${JSON.stringify(name)}, source: x}]`),
      );
      expect(allProblems(file)).toEqual([
        expect.stringMatching(/^w\.yaml:7:20: spec\.plugins\[0\]\.name: must be lower-case/),
      ]);
    },
  );

  test('many aliases', () => {
    const text = workspace('a', `plugins: [{name: x, source: x, config: {a: &a 1, b: [${'*a, '.repeat(100_000)}]}}]`);
    expect(problems(text)).toEqual([expect.stringMatching(/^w\.yaml:7:\d+: more than 100 aliases; refused$/)]);
  });

  test('many keys, many errors', () => {
    const keys = Array.from({ length: 100_000 }, (_, index) => `k${index}:`).join('\n');
    expect(problems(keys).length).toBeGreaterThan(0);
    expect(problems(']\n'.repeat(100_000)).length).toBeLessThan(30);
  });

  test('__proto__ reaches no prototype and passes nowhere as a field', () => {
    const inConfig = parseWorkspaceFile(
      'w.yaml',
      workspace('a', 'plugins: [{name: x, source: x, config: {__proto__: {polluted: 1}}}]'),
    );
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
    expect(JSON.stringify(inConfig.documents)).not.toContain('"polluted":1,');
    expect(problems(workspace('a', 'plugins: []\n  __proto__: {suspend: true}'))).toEqual([
      expect.stringContaining('spec.__proto__: unknown key'),
    ]);
    expect(problems(`${workspace('a')}__proto__: {kind: Workspace}\n`)).toEqual([
      expect.stringContaining('__proto__: unknown key'),
    ]);
  });

  test('a problem never repeats a value', () => {
    expect(problems(workspace('a', 'plugins: [{name: x, source: {token: hunter2}}]')).join()).not.toContain('hunter2');
    expect(problems(workspace('a', 'plugins: [{name: hunter2 !, source: x, digest: hunter2}]')).join()).not.toContain(
      'hunter2',
    );
  });
});
