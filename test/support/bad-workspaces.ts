import { API_VERSION } from '../../src/domain/workspace.ts';

/**
 * What an API server makes of it:
 * `names` refused by its own rule for names · `structure` refused by the schema of the CRD · `rule` refused by a rule of CEL
 * in it · `drops` takes it without what it does not know, or refuses it where it is asked to be strict, as kubectl asks ·
 * `takes` stored as it is, and refused when it is read: see the condition Ready of the workspace.
 */
export type ServerVerdict = 'names' | 'structure' | 'rule' | 'drops' | 'takes';

export interface BadWorkspace {
  readonly what: string;
  readonly server: ServerVerdict;
  /**
   * Whether the schema that reads files and rows refuses the whole of it. `no`: it is for a source, a profile or the
   * operator's configuration to refuse, or nothing is wrong with it elsewhere than in Kubernetes.
   */
  readonly isMalformed: boolean;
  readonly object: WorkspaceObject;
}

export interface WorkspaceObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Readonly<Record<string, unknown>> & { readonly name: string };
  readonly spec?: unknown;
}

/** A workspace that nothing is wrong with. */
export function goodWorkspace(name: string, spec: object = {}): WorkspaceObject {
  return {
    apiVersion: API_VERSION,
    kind: 'Workspace',
    metadata: { name },
    spec: {
      runtime: 'claude-code',
      target: { docker: { container: 'ws-alice' } },
      plugins: [{ name: 'superpowers', source: 'github://obra/superpowers#v4.1.0' }],
      ...spec,
    },
  };
}

/** Every kind of target, every key; the longest and the shortest. */
export const GOOD_WORKSPACES: readonly WorkspaceObject[] = [
  goodWorkspace('shortest', { target: { external: {} }, plugins: [] }),
  goodWorkspace('a'.repeat(128), { target: { docker: {} } }),
  goodWorkspace('docker.dotted-name', { target: { docker: { container: 'Ws_1', engine: 'edge' } } }),
  goodWorkspace('directory', { target: { directory: { path: '/srv/agents/a b/$(c)' } } }),
  goodWorkspace('ssh', { target: { ssh: { host: '2001:db8::7', port: 2222, user: '_agent' } } }),
  goodWorkspace('ec2-id', { target: { ec2: { instanceId: 'i-0123456789abcdef0', region: 'us-gov-east-1' } } }),
  goodWorkspace('ec2-tags', { target: { ec2: { tags: manyTags(50) } } }),
  goodWorkspace('pod', { target: { pod: {} } }),
  goodWorkspace('pod-name', { target: { pod: { name: 'agent-0.a', container: 'agent' } } }),
  goodWorkspace('p'.repeat(128), { target: { pod: { selector: { 'a.example/Team_1': '', app: 'a.B-c' } } } }),
  goodWorkspace('full', {
    id: '4C1e0b6a_x.y-z',
    runtime: 'claude_code',
    plugins: [
      { name: 'bare', source: 'bare' },
      { name: 'padded', source: ' github://obra/padded#main\n' },
      { name: 'pinned', source: 'local://pinned', digest: `sha256:${'0a'.repeat(32)}` },
      { name: 'set', source: 'set', config: { poll_seconds: 30, deep: [{ er: null }], 'x-kubernetes-a': true } },
    ],
    policy: {
      mode: 'Plan',
      drift: 'Off',
      prune: 'Off',
      adopt: 'Replace',
      allowEmpty: true,
      restart: 'Never',
      deletion: 'Orphan',
    },
    suspend: true,
  }),
  goodWorkspace('many', {
    plugins: Array.from({ length: 1000 }, (_, index) => ({ name: `p${index}`, source: 'local://p' })),
  }),
];

function manyTags(count: number): object {
  return Object.fromEntries(Array.from({ length: count }, (_, index) => [`tag/${index}`, '']));
}

const LONG_TEXT = 'x'.repeat(70_000);

const plugin = (over: object): object => ({ plugins: [{ name: 'a', source: 'a', ...over }] });
const ssh = (over: object): object => ({ target: { ssh: { host: 'agents.example', ...over } } });
const ec2 = (spec: object): object => ({ target: { ec2: spec } });
const pod = (spec: object): object => ({ target: { pod: spec } });
const directory = (path: unknown): object => ({ target: { directory: { path } } });

type Row = readonly [what: string, over: object];

const OF_STRUCTURE: readonly Row[] = [
  ['no runtime', { runtime: undefined }],
  ['no target', { target: undefined }],
  ['plugins that are nothing', { plugins: null }],
  ['an empty runtime', { runtime: '' }],
  ['a long runtime', { runtime: 'r'.repeat(129) }],
  ['a runtime that is a number', { runtime: 7 }],
  ['an id with a slash', { id: 'a/b' }],
  ['a long id', { id: 'a'.repeat(129) }],
  ['a target that is a text', { target: 'docker' }],
  ['a kind of target that is a text', { target: { docker: 'ws-alice' } }],
  ['a container with shell text', { target: { docker: { container: 'ws;reboot' } } }],
  ['a container that is an option', { target: { docker: { container: '--rm' } } }],
  ['an engine with capitals', { target: { docker: { engine: 'Edge' } } }],
  ['no path', { target: { directory: {} } }],
  ['a relative path', directory('srv/agents')],
  ['a path with a new line', directory('/srv/a\nb')],
  ['a path with a NUL', directory('/srv/a\0b')],
  ['a long path', directory(`/${'a'.repeat(4096)}`)],
  ['no host', { target: { ssh: {} } }],
  ['a host that is an option', ssh({ host: '-oProxyCommand=reboot' })],
  ['a host with a user', ssh({ host: 'root@agents.example' })],
  ['two hosts', ssh({ host: 'a.example b.example' })],
  ['port 0', ssh({ port: 0 })],
  ['port 65536', ssh({ port: 65_536 })],
  ['a port that is a text', ssh({ port: '22' })],
  ['half a port', ssh({ port: 22.5 })],
  ['a user with shell text', ssh({ user: 'root;reboot' })],
  ['an instance by name', ec2({ instanceId: 'web-1' })],
  ['a region that is a URL', ec2({ region: 'evil.example/' })],
  ['a long region', ec2({ region: `eu${'-a'.repeat(40)}` })],
  ['no tag', ec2({ tags: {} })],
  ['too many tags', ec2({ tags: manyTags(51) })],
  ['a long value of a tag', ec2({ tags: { Name: 'v'.repeat(257) } })],
  ['a pod that leads elsewhere', pod({ name: '../../kube-system/pods/a' })],
  ['a pod with capitals', pod({ name: 'Agent' })],
  ['no label', pod({ selector: {} })],
  ['too many labels', pod({ selector: manyTags(21) })],
  ['a label with a space', pod({ selector: { app: 'an agent' } })],
  ['a long label', pod({ selector: { app: 'a'.repeat(64) } })],
  ['a label that is a number', pod({ selector: { app: 7 } })],
  ['a container that is a path', pod({ container: 'a/b' })],
  ['a plugin without a source', { plugins: [{ name: 'a' }] }],
  ['a plugin without a name', { plugins: [{ source: 'a' }] }],
  ['a plugin that leads elsewhere', plugin({ name: '../a' })],
  ['a plugin with capitals', plugin({ name: 'A' })],
  ['a plugin with shell text', plugin({ name: 'a;reboot' })],
  ['a long name of a plugin', plugin({ name: 'a'.repeat(129) })],
  ['a plugin that is declared twice', { plugins: ['a', 'b'].map((source) => ({ name: 'a', source })) }],
  [
    'too many plugins',
    { plugins: Array.from({ length: 1001 }, (_, index) => ({ name: `p${index}`, source: 'local://p' })) },
  ],
  ['no source', plugin({ source: '' })],
  ['a long source', plugin({ source: `local://${'a'.repeat(2048)}` })],
  ['half a digest', plugin({ digest: 'sha256:0a0a' })],
  ['a digest in capitals', plugin({ digest: `sha256:${'0A'.repeat(32)}` })],
  ['a digest of another kind', plugin({ digest: `md5:${'0a'.repeat(16)}` })],
  ['settings that are a list', plugin({ config: ['a'] })],
  ['a mode in small letters', { policy: { mode: 'apply' } }],
  // Off without quotes, as kubectl reads it.
  ['drift that is false', { policy: { drift: false } }],
  ['an unknown way of pruning', { policy: { prune: 'Everything' } }],
  ['an unknown way of adopting', { policy: { adopt: 'Always' } }],
  ['allowEmpty that is a text', { policy: { allowEmpty: 'yes' } }],
  ['an unknown way of restarting', { policy: { restart: 'Always' } }],
  ['an unknown way of deleting', { policy: { deletion: 'Keep' } }],
  ['suspend that is a text', { suspend: 'true' }],
];

/** Sources that no scheme could read. In a file they are a matter of that one plugin. */
const OF_GRAMMAR: readonly Row[] = [
  ['a source of two words', plugin({ source: 'two words' })],
  ['a source with capitals', plugin({ source: 'Superpowers' })],
  ['a source without a spec', plugin({ source: 'github://' })],
  ['a source with a new line inside', plugin({ source: 'github://obra/super\npowers' })],
];

const OF_RULES: readonly Row[] = [
  ['no plugins', { plugins: undefined }],
  ['no kind of target', { target: {} }],
  ['two kinds of target', { target: { docker: {}, external: {} } }],
  ['a kind of target that nobody knows', { target: { cloud: {} } }],
  ['an instance both by id and by tags', ec2({ instanceId: 'i-01234567', tags: { Name: 'a' } })],
  ['a tag without a key', ec2({ tags: { '': 'a' } })],
  ['a long key of a tag', ec2({ tags: { ['k'.repeat(129)]: 'a' } })],
  ['a pod both by name and by labels', pod({ name: 'a', selector: { app: 'a' } })],
  ['a label with two prefixes', pod({ selector: { 'a/b/c': 'a' } })],
];

const UNKNOWN_KEYS: readonly Row[] = [
  ['an unknown key of the spec', { colour: 'red' }],
  ['an unknown key of a plugin', plugin({ sauce: 'b' })],
  ['an unknown key of a policy', { policy: { pruning: 'All' } }],
  ['an unknown key of a target', { target: { docker: { privileged: true } } }],
  ['a pod of another namespace', pod({ name: 'a', namespace: 'kube-system' })],
  ['a second kind of target that nobody knows', { target: { docker: {}, cloud: {} } }],
  ['something for an external machine', { target: { external: { url: 'https://a.example' } } }],
];

/** For a source, a profile or the operator's configuration to refuse. */
const NOT_ALLOWED: readonly Row[] = [
  ['a source of an unknown scheme', plugin({ source: 'ftp://a.example/b' })],
  ['a source that is not pinned', plugin({ source: 'github://obra/superpowers' })],
  ['a runtime without a profile', { runtime: 'nobody-knows' }],
  ['a directory that the operator has not allowed', directory('/etc')],
  ['an engine that the operator has not configured', { target: { docker: { engine: 'elsewhere' } } }],
  ['a host that the operator has not allowed', ssh({ host: '169.254.169.254' })],
];

const rows = (list: readonly Row[], server: ServerVerdict, isMalformed: boolean): readonly BadWorkspace[] =>
  list.map(([what, over]) => ({ what, server, isMalformed, object: goodWorkspace('bad', over) }));

const named = (what: string, name: string, server: ServerVerdict, isMalformed: boolean): BadWorkspace => ({
  what,
  server,
  isMalformed,
  object: goodWorkspace(name),
});

/** Whatever a person or an enemy may write, and who refuses it. */
export const BAD_WORKSPACES: readonly BadWorkspace[] = [
  { what: 'no spec', server: 'structure', isMalformed: true, object: { ...goodWorkspace('bad'), spec: undefined } },
  named('a name that leads elsewhere', '../bad', 'names', true),
  named('a name with capitals', 'Bad', 'names', true),
  named('a name with shell text', 'bad;reboot', 'names', true),
  // In a file its namespace may have been cut, and the pod another: that one can be found is for the target to say.
  {
    what: 'a name that is too long for a label, and no other way to its pod',
    server: 'rule',
    isMalformed: false,
    object: goodWorkspace('p'.repeat(64), pod({})),
  },
  named('a name with an underscore, which files may have', 'not_bad', 'names', false),
  named('a long name', 'a'.repeat(129), 'rule', true),
  ...rows(OF_STRUCTURE, 'structure', true),
  ...rows(OF_GRAMMAR, 'structure', false),
  ...rows(OF_RULES, 'rule', true),
  ...rows(UNKNOWN_KEYS, 'drops', true),
  {
    what: 'a payload as annotations',
    server: 'takes',
    isMalformed: true,
    object: { ...goodWorkspace('bad'), metadata: { name: 'bad', annotations: { text: LONG_TEXT } } },
  },
  ...rows([['a payload as settings', plugin({ config: { text: LONG_TEXT } })]], 'takes', true),
  ...rows(NOT_ALLOWED, 'takes', false),
];
