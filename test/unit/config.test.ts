import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { configFrom, gatherSettings, type Config, type Gathered } from '../../src/config.ts';
import { settingOptions } from '../../src/config/options.ts';
import { findProfile } from '../../src/domain/profile.ts';
import { tempDir } from '../support/temp-dir.ts';

type Environment = Readonly<Record<string, string>>;

/** What the program would be given by a command line in an environment. */
function given(argv: readonly string[], environment: Environment = {}): Readonly<Record<string, unknown>> {
  for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
  const command = new Command().exitOverride();
  for (const option of settingOptions('daemon')) command.addOption(option);
  return command.parse([...argv], { from: 'user' }).opts();
}

function gather(argv: readonly string[], environment?: Environment): Gathered {
  return gatherSettings(given(argv, environment));
}

function read(argv: readonly string[], environment?: Environment): Config {
  return configFrom(given(argv, environment));
}

describe('configuration', () => {
  afterEach(() => vi.unstubAllEnvs());

  it.each([
    {
      title: 'files when told so',
      argv: ['--files', '/w'],
      env: {},
      store: { kind: 'files', dir: '/w', origin: '--files' },
    },
    {
      title: 'Postgres from the usual variable',
      argv: [],
      env: { DATABASE_URL: 'postgres://h/d' },
      store: { kind: 'postgres', url: 'postgres://h/d', origin: 'DATABASE_URL' },
    },
    {
      title: 'files before a DATABASE_URL that is there for others',
      argv: ['--files', '/w'],
      env: { DATABASE_URL: 'postgres://h/d' },
      store: { kind: 'files', dir: '/w', origin: '--files' },
    },
    {
      title: 'files from the variable',
      argv: [],
      env: { DATABASE_URL: 'postgres://h/d', PLUGSET_FILES: '/w' },
      store: { kind: 'files', dir: '/w', origin: 'PLUGSET_FILES' },
    },
    {
      title: 'what was typed before any variable',
      argv: ['--database', 'postgres://x/y'],
      env: { PLUGSET_FILES: '/w' },
      store: { kind: 'postgres', url: 'postgres://x/y', origin: '--database' },
    },
  ])('store: $title', ({ argv, env, store }) => {
    expect(read(argv, env).store).toEqual(store);
  });

  it('keeps the state of two directories apart: else the second would look like a deletion of the first', () => {
    expect(read(['--files', '/a/w']).stateDir).not.toBe(read(['--files', '/b/w']).stateDir);
    expect(read(['--files', '/a/w', '--state-dir', '/s']).stateDir).toBe('/s');
  });

  it('says what is missing, and where what is wrong was given', () => {
    expect(() => read([])).toThrow(/--files DIR or --kubernetes, set DATABASE_URL/);
    const isWhole = 'must be a whole number of 1 or more';
    expect(() => read(['--files', '/w', '--workers', 'many'])).toThrow(`--workers: ${isWhole}`);
    expect(() => read(['--files', '/w'], { PLUGSET_PER_ENGINE: '0' })).toThrow(`PLUGSET_PER_ENGINE: ${isWhole}`);
    expect(() => read(['--files', '/w', '--docker-host', 'socket'])).toThrow('--docker-host: must be unix:///path');
    expect(() => read(['--files', '/w', '--listen', '9464'])).toThrow('--listen: must be host:port');
    expect(() => read(['--files', '/w', '--authority', 'No Such'])).toThrow('--authority: must be');
    expect(() => read(['--files', '/w', '--lease', '500ms'])).toThrow('--lease: must be a duration');
  });

  it('takes a bare number for seconds', () => {
    expect(read(['--files', '/w', '--grace', '5']).graceMs).toBe(5000);
    expect(read(['--files', '/w', '--grace', '2m']).graceMs).toBe(120_000);
  });

  it('takes no for an answer: a switch set to false in the environment is off', () => {
    expect(read(['--files', '/w'], { PLUGSET_ALLOW_UNPINNED: 'false' }).allowUnpinned).toBe(false);
    expect(read(['--files', '/w'], { PLUGSET_ALLOW_UNPINNED: 'true' }).allowUnpinned).toBe(true);
    expect(read(['--files', '/w', '--allow-unpinned']).allowUnpinned).toBe(true);
    expect(() => read(['--files', '/w'], { PLUGSET_ALLOW_LOOPBACK: 'maybe' })).toThrow(/true or false/);
  });

  it('names engines, and listens on loopback only unless told otherwise', () => {
    const config = read([
      '--files',
      '/w',
      '--docker-host',
      'tcp://10.0.0.1:2375',
      '--docker-host',
      'east=unix:///run/east.sock',
    ]);
    expect(config.engines).toEqual([
      { name: 'default', address: 'tcp://10.0.0.1:2375' },
      { name: 'east', address: 'unix:///run/east.sock' },
    ]);
    expect(config.listen.host).toBe('127.0.0.1');
    expect(read(['--files', '/w', '--listen', '[::1]:1']).listen).toEqual({ host: '::1', port: 1 });
  });
});

describe('a configuration file', () => {
  let dir: string;

  beforeEach(async () => {
    dir = await tempDir();
  });
  afterEach(() => vi.unstubAllEnvs());

  const write = async (body: string): Promise<string> => {
    const path = join(dir, 'plugset.yaml');
    await writeFile(path, `apiVersion: plugset.dev/v1alpha1\nkind: Configuration\n${body}`);
    return path;
  };

  it('is read below variables, and these below what was typed; each setting knows where it is from', async () => {
    const path = await write('store: {files: w}\nlimits:\n  workers: 3\n  perEngine: 2\n  grace: 1m\n');
    const environment = { PLUGSET_PER_ENGINE: '5', PLUGSET_GRACE: '6' };
    const { origins } = gather(['--config', path, '--grace', '7'], environment);
    expect(read(['--config', path, '--grace', '7'])).toMatchObject({
      workers: 3,
      laneLimit: 5,
      graceMs: 7000,
      firstPassPerSecond: 50,
    });
    expect(origins.get('limits.workers')).toBe(`${path}:5`);
    expect(origins.get('limits.perEngine')).toBe('PLUGSET_PER_ENGINE');
    expect(origins.get('limits.grace')).toBe('--grace');
    expect(origins.has('limits.firstPassRate')).toBe(false);
  });

  it('names paths from where it lies', async () => {
    const { store, roots } = read([
      '--config',
      await write('store: {files: w}\ntargets: {directory: {roots: [{path: ../r}]}}\n'),
    ]);
    expect(store).toMatchObject({ kind: 'files', dir: join(dir, 'w') });
    expect(roots).toEqual([{ path: join(dirname(dir), 'r') }]);
  });

  it('tells no password that was written in the wrong place', async () => {
    const path = await write('store: {postgres: {postgres://plugset:hunter2@db/plugset}}');
    expect(() => read(['--config', path])).toThrow(/unknown key/);
    expect(() => read(['--config', path])).not.toThrow(/hunter2/);
  });

  it('is refused with file and line, every problem at once', async () => {
    const path = await write('store: {files: w}\nlimits:\n  wrokers: 3\n  grace: soon\n');
    const text = messageOf(() => read(['--config', path]));
    expect(text).toContain(`${path}:5:3: limits.wrokers: unknown key; allowed here: workers,`);
    expect(text).toContain(`${path}:6:10: limits.grace: must be a duration such as 500ms, 30s, 10m or 1h`);
  });

  it.each([
    ['', /holds nothing|must be a map/],
    ['- a\n', /must be a map/],
    ['a: [\n', /plugset\.yaml:\d+:\d+: /],
    ['a: 1\n---\nb: 1\n', /one document/],
    ['a: 1\na: 2\n', /stands here twice/],
  ])('is refused when it is %j', async (text, problem) => {
    const path = join(dir, 'plugset.yaml');
    await writeFile(path, text);
    expect(() => read(['--config', path])).toThrow(problem);
  });

  it('says that it cannot be read', () => {
    expect(() => read(['--config', join(dir, 'none.yaml')])).toThrow(/none\.yaml: cannot be read \(ENOENT\)/);
  });

  it('names one store; DATABASE_URL, which is set for others too, gives way to it', async () => {
    const both = await write('store: {files: w, postgres: {}}\n');
    expect(() => read(['--config', both])).toThrow(/one of files, postgres, kubernetes, not several/);
    const environment = { DATABASE_URL: 'postgres://env/d' };
    expect(read(['--config', await write('store: {files: w}\n')], environment).store.kind).toBe('files');
    expect(read(['--config', await write('store: {postgres: {}}\n')], environment).store).toMatchObject({
      url: 'postgres://env/d',
      origin: 'DATABASE_URL',
    });
    const inFile = await write('store: {postgres: {url: postgres://file/d}}\n');
    expect(read(['--config', inFile], environment).store).toMatchObject({ url: 'postgres://file/d' });
    expect(read(['--config', inFile, '--files', '/w']).store.kind).toBe('files');
  });

  it('means the cluster where somebody types how to reach it, and no store', async () => {
    const environment = { DATABASE_URL: 'postgres://env/d' };
    const store = { kind: 'kubernetes', origin: '--kubeconfig' };
    expect(read(['--kubeconfig', '/k'], environment)).toMatchObject({ store, kubernetes: { kubeconfigs: ['/k'] } });
    expect(read(['--context', 'c'], { ...environment, PLUGSET_FILES: '/w' }).store.kind).toBe('kubernetes');
    vi.unstubAllEnvs();
    expect(read(['--kubernetes'], environment).store).toMatchObject({ kind: 'kubernetes', origin: '--kubernetes' });
    expect(read(['--kubeconfig', '/k', '--files', '/w']).store.kind).toBe('files');
    const files = await write('store: {files: w}\n');
    expect(read(['--config', files, '--kubeconfig', '/k']).store.kind).toBe('files');
    expect(read(['--config', files, '--kubernetes']).store.kind).toBe('kubernetes');
    const kubernetes = await write('store: {kubernetes: {namespaces: [team-a], stateNamespace: plugset}}\n');
    const narrow = { kind: 'kubernetes', namespaces: ['team-a'], stateNamespace: 'plugset' };
    expect(read(['--config', kubernetes], environment).store).toMatchObject(narrow);
    expect(read(['--config', kubernetes, '--kubernetes']).store).toMatchObject(narrow);
    expect(read(['--state-namespace', 'one']).store).toMatchObject({ kind: 'kubernetes', stateNamespace: 'one' });
    await write('store: {files: w}\n');
    expect(read(['--config', files], { PLUGSET_STATE_NAMESPACE: 'one' }).store.kind).toBe('files');
  });

  it('gives a custom resource nothing that does not name its namespace, and all others everything that names none', async () => {
    const targets = `targets:
  docker: {engines: [{name: default, address: unix:///d}, {name: default, address: unix:///d, namespaces: [team-a], containers: [ws-*]}]}
  directory: {roots: [{path: /r}, {path: /all, namespaces: ['*']}]}
  ssh: [{hosts: [h]}, {hosts: [i], for: engines}]
  ec2: {regions: [{name: eu-west-1}, {name: eu-west-1, namespaces: [team-a, team-b], tags: {team: a}}]}
`;
    const path = await write(targets);
    const { engines, roots, sshHosts, ec2, containerRules } = read(['--config', path, '--kubernetes']);
    expect([engines, roots, sshHosts, ec2.regions].map((entries) => entries.map((entry) => entry.namespaces))).toEqual([
      [[], ['team-a']],
      [[], undefined],
      [[]],
      [[], ['team-a', 'team-b']],
    ]);
    expect([containerRules.trustIds, ec2.rules.trustIds]).toEqual([false, false]);
    const others = read(['--config', path, '--files', '/w']);
    expect(others.engines.map(({ namespaces }) => namespaces)).toEqual([undefined, ['team-a']]);
    expect(others.ec2.regions[0]?.namespaces).toBeUndefined();
    expect([others.containerRules.trustIds, others.ec2.rules.trustIds]).toEqual([true, true]);
    const trusting = await write('targets: {docker: {trustIds: true}, ec2: {trustIds: true}}');
    const trusted = read(['--config', trusting, '--kubernetes']);
    expect([trusted.containerRules.trustIds, trusted.ec2.rules.trustIds]).toEqual([true, true]);
  });

  it('lets rows and files mean pods only where the operator says so, and custom resources those of their namespace', async () => {
    const podsWith = (args: readonly string[]): unknown => read(args).pods.namespaces;
    expect(podsWith(['--files', '/w'])).toEqual([]);
    expect(podsWith(['--kubernetes'])).toBeUndefined();
    const where = await write('store: {kubernetes: {namespaces: [team-b]}}\n');
    expect(podsWith(['--config', where])).toEqual(['team-b']);
    const some = await write('targets: {pod: {namespaces: [team-a]}}\n');
    for (const store of [['--files', '/w'], ['--kubernetes']])
      expect(podsWith(['--config', some, ...store])).toEqual(['team-a']);
    const all = await write("targets: {pod: {namespaces: ['*']}}\n");
    expect(podsWith(['--config', all, '--files', '/w'])).toBeUndefined();
  });

  it('gives a credential to the namespaces that its entry names', async () => {
    const sources =
      'sources: {gitCredentials: [c, {file: d, namespaces: [team-a]}], sshKey: {file: k, namespaces: ["*"]}}';
    const path = await write(sources);
    expect(read(['--config', path, '--kubernetes'])).toMatchObject({
      gitCredentials: [
        { file: join(dir, 'c'), namespaces: [] },
        { file: join(dir, 'd'), namespaces: ['team-a'] },
      ],
      sshKey: { file: join(dir, 'k'), namespaces: undefined },
    });
    const others = read(['--config', path, '--files', '/w', '--ssh-key', '/k']);
    expect(others.gitCredentials).toEqual([{ file: join(dir, 'c') }, { file: join(dir, 'd'), namespaces: ['team-a'] }]);
    expect(others.sshKey).toEqual({ file: '/k' });
    const wrong = await write('sources: {gitCredentials: [{path: d}]}');
    expect(() => read(['--config', wrong, '--files', '/w'])).toThrow(/must be a path, or \{file: PATH/);
    const misspelt = await write('sources: {sshKey: {file: d, namespaces: [Team A]}}');
    expect(() => read(['--config', misspelt, '--files', '/w'])).toThrow(/namespaces\[0\]: must be .*; or \* for all/);
  });

  it('gives the engine that nobody has configured to no custom resource', () => {
    const environment = { DOCKER_HOST: 'unix:///run/docker.sock' };
    for (const env of [{}, environment]) expect(read(['--kubernetes'], env).engines[0]?.namespaces).toEqual([]);
    expect(read(['--kubernetes', '--root', '/r', '--docker-host', 'tcp://h:1'])).toMatchObject({
      engines: [{ namespaces: [] }],
      roots: [{ namespaces: [] }],
    });
  });

  it('refuses one engine at two addresses', async () => {
    const path = await write('targets: {docker: {engines: [{address: unix:///a}, {address: unix:///b}]}}');
    expect(() => read(['--config', path, '--files', '/w'])).toThrow(
      /engines\[1\]\.address: engine default is at another address in the entry before/,
    );
  });

  it('finds the cluster as a pod does, else as kubectl does', () => {
    const inPod = { KUBERNETES_SERVICE_HOST: '10.0.0.1', KUBERNETES_SERVICE_PORT: '6443' };
    const account = { host: '10.0.0.1', port: '6443', directory: '/var/run/secrets/kubernetes.io/serviceaccount' };
    expect(read(['--kubernetes'], inPod).kubernetes.inCluster).toEqual(account);
    expect(read(['--kubeconfig', '/k'], inPod).kubernetes).toEqual({ kubeconfigs: ['/k'] });
    vi.unstubAllEnvs();
    const files = { KUBECONFIG: '/a:/b', KUBERNETES_SERVICE_HOST: '' };
    expect(read(['--kubernetes'], files).kubernetes).toEqual({ kubeconfigs: ['/a', '/b'] });
    expect(read(['--kubernetes'], { ...files, KUBECONFIG: '' }).kubernetes.kubeconfigs).toEqual([
      expect.stringMatching(/\/\.kube\/config$/),
    ]);
  });

  it('takes the URL of the database from a file of its own', async () => {
    await writeFile(join(dir, 'url'), 'postgres://u:p@h/d\n');
    const path = await write('store: {postgres: {urlFile: url}}\n');
    expect(read(['--config', path]).store).toMatchObject({ kind: 'postgres', url: 'postgres://u:p@h/d' });
    await writeFile(join(dir, 'url'), 'nothing');
    expect(() => read(['--config', path])).toThrow(/holds no postgres/);
  });

  it("reads a platform's own tables by two queries; what vanishes there is left as it is unless told otherwise", async () => {
    const query = (more = ''): string =>
      `store: {postgres: {url: postgres://h/d, query: {workspaces: select 1, plugins: "select 2;"${more}}}}\n`;
    const config = read(['--config', await write(query())]);
    expect(config.store).toMatchObject({
      kind: 'postgres',
      query: {
        workspaces: 'select 1',
        plugins: 'select 2;',
        intervalMs: 10_000,
        channel: undefined,
        allowEmpty: false,
      },
    });
    expect(config.policy.deletion).toBe('Orphan');
    const set = read(['--config', await write(query(', interval: 1m, channel: workspaces_changed'))]);
    expect(set.store).toMatchObject({ query: { intervalMs: 60_000, channel: 'workspaces_changed' } });
    const wrong = await write(query(', interval: 10ms, channel: Changed'));
    expect(() => read(['--config', wrong])).toThrow(
      /interval: must be a duration.* of 1000 ms[^]*channel: must be lower-case/,
    );
  });

  it('names who is told of transitions', async () => {
    const path = await write(`store: {files: w}
notifications:
  groupWindow: 1m
  on: [Stalled]
  webhook: {url: http://127.0.0.1:8080/hook, secretFile: secret}
`);
    expect(read(['--config', path]).webhook).toEqual({
      url: 'http://127.0.0.1:8080/hook',
      secretFile: join(dir, 'secret'),
      groupWindowMs: 60_000,
      on: ['Stalled'],
    });
    expect(read(['--files', '/w']).webhook).toBeUndefined();
    const bad = await write(`store: {files: w}
notifications:
  on: [Broken]
  webhook:
    url: ftp://h
`);
    const text = messageOf(() => read(['--config', bad]));
    expect(text).toContain(
      `${bad}:5:8: notifications.on[0]: must be one of Ready, Drifted, NotReady, Held, Stalled, Idle`,
    );
    expect(text).toMatch(/:7:10: notifications\.webhook\.url: must be an http or https URL/);
    expect(text).toMatch(/:6:3: notifications\.webhook\.secretFile: is required/);
  });

  it('locks keys of the policy, and bounds what has to be remembered', async () => {
    const fine = await write(`store: {files: w}\npolicy: {mode: Plan}\npolicyLocked: [mode, adopt]\n`);
    expect(read(['--config', fine]).policy).toMatchObject({ mode: 'Plan', locked: ['mode', 'adopt'] });
    const wrong = await write(`store: {files: w}\npolicyLocked: [deletion]\nguards: {emptiedPerHour: 501}\n`);
    expect(() => read(['--config', wrong])).toThrow(
      /:4:\d+: policyLocked\[0\]: .*\n.*:5:\d+: guards\.emptiedPerHour: must be a whole number from 0 to 500/,
    );
  });

  it('adds runtimes, and changes built-in ones', async () => {
    const { profiles } = read([
      '--config',
      await write(`store: {files: w}
profiles:
  - {runtime: my-agent, configDir: {docker: /srv/agent}, disposable: [tmp]}
  - {runtime: claude_code, owner: {uid: 1000, gid: 1000}}
`),
    ]);
    expect(findProfile(profiles, 'my_agent')).toEqual({
      runtime: 'my-agent',
      configDir: { docker: '/srv/agent', directory: '.', ssh: '/configs', ec2: '/configs', pod: '/configs' },
      owner: 'configDir',
      disposable: ['tmp'],
      rereads: [],
      bootMs: 90_000,
    });
    expect(findProfile(profiles, 'claude-code')).toMatchObject({
      configDir: { docker: '/configs' },
      owner: { uid: 1000, gid: 1000 },
    });
    const bad = await write('store: {files: w}\nprofiles: [{runtime: x, configDir: {docker: relative}}]\n');
    expect(() => read(['--config', bad])).toThrow(/profiles\[0\]\.configDir\.docker: must be an absolute path/);
  });
});

function messageOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('nothing was thrown');
}
