import { setMaxListeners } from 'node:events';
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { SystemClock } from '../../../src/adapters/system/clock.ts';
import { configFrom } from '../../../src/config.ts';
import { diagnose, type Finding } from '../../../src/doctor.ts';
import { workspaceKey } from '../../../src/domain/name.ts';
import { hasOpenssl, TestAuthority } from '../../support/authority.ts';
import { openStore } from '../../../src/stores.ts';
import { withBackend } from '../../support/backend.ts';
import { freshDatabase } from '../../support/fresh-database.ts';
import { writePlugin } from '../../support/plugset.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';
import { tempDir } from '../../support/temp-dir.ts';

let dir: string;
let given: Record<string, unknown>;
const servers: (Server | HttpServer)[] = [];

beforeEach(async () => {
  dir = await tempDir();
  for (const name of ['w', 'root', 'registry']) await mkdir(join(dir, name));
  vi.stubEnv('DATABASE_URL', '');
  vi.stubEnv('DOCKER_HOST', '');
  given = {
    files: join(dir, 'w'),
    stateDir: join(dir, 'state'),
    cacheDir: join(dir, 'cache'),
    dockerHost: [`unix://${dir}/none.sock`],
    listen: '127.0.0.1:1',
  };
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))));
});

function look(workspace?: string): Promise<readonly Finding[]> {
  const { signal } = new AbortController();
  // As in main.ts: all checks wait for the signal of one command.
  setMaxListeners(0, signal);
  return diagnose({
    given,
    workspace: workspace === undefined ? undefined : workspaceKey('default', workspace),
    clock: new SystemClock(),
    logger: new RecordingLogger(),
    signal,
  });
}

/** Results and what was seen, of the checks of this name. */
function of(findings: readonly Finding[], name: string): readonly string[] {
  return findings.filter(({ check }) => check === name).map(({ result, seen }) => `${result} ${seen}`);
}

async function declare(name: string, spec: string): Promise<void> {
  await writeFile(
    join(dir, 'w', `${name}.yaml`),
    `apiVersion: plugset.dev/v1alpha1\nkind: Workspace\nmetadata: {name: ${name}}\nspec:\n  runtime: hermes\n  ${spec}\n`,
  );
}

const file = async (name: string, text: string, mode = 0o600): Promise<string> => {
  const path = join(dir, name);
  await writeFile(path, text, { mode });
  return path;
};

describe('doctor', () => {
  it('looks at no engine that is given to nobody, as the default one is not to custom resources', async () => {
    const { files: _, ...others } = given;
    given = { ...others, kubernetes: true, kubeconfig: join(dir, 'none') };
    expect(of(await look(), 'engine default')).toEqual([]);
    const engines = `[{address: "unix://${dir}/none.sock", namespaces: [agents]}]`;
    const config = await file(
      'plugset.yaml',
      `apiVersion: plugset.dev/v1alpha1\nkind: Configuration\ntargets: {docker: {engines: ${engines}}}\n`,
    );
    given = { ...given, config, dockerHost: undefined };
    expect(of(await look(), 'engine default')).toEqual([expect.stringContaining('does not answer (ENOENT)')]);
  });

  it('says what the configuration of a cluster gives to nobody', async () => {
    const credentials = await file('credentials', 'https://u:p@h\n');
    const root = join(dir, 'root');
    const targets = `{directory: {roots: [{path: ${root}}, {path: ${dir}/w, namespaces: [agents]}]}}`;
    const sources = `{gitCredentials: [${credentials}], sshKey: {file: ${credentials}, namespaces: ['*']}}`;
    const config = await file(
      'plugset.yaml',
      `apiVersion: plugset.dev/v1alpha1\nkind: Configuration\ntargets: ${targets}\nsources: ${sources}\n`,
    );
    const { files, ...others } = given;
    given = { ...others, config, kubernetes: true, kubeconfig: join(dir, 'none') };
    expect(of(await look(), 'namespaces')).toEqual([
      `warn no workspace may use the root ${root}`,
      `warn no workspace may use the credentials in ${credentials}`,
    ]);
    given = { ...others, config, files };
    expect(of(await look(), 'namespaces')).toEqual([]);
  });

  it('finds nothing wrong where nothing is', async () => {
    await writePlugin(join(dir, 'registry/one'), { 'SKILL.md': 'one\n' });
    await mkdir(join(dir, 'root/alice'));
    await declare('alice', `target: {directory: {path: ${dir}/root/alice}}\n  plugins: [{name: one, source: one}]`);
    given = { ...given, root: [join(dir, 'root')], registry: [join(dir, 'registry')] };
    const findings = await look('alice');
    expect(findings.filter(({ result }) => result === 'FAIL')).toEqual([]);
    expect(of(findings, 'configuration')).toEqual(['ok no file; 7 settings given by flags and variables']);
    expect(of(findings, 'store')).toEqual([`ok ${dir}/w (--files) can be read`]);
    expect(of(findings, 'workspaces')).toEqual(['ok 1 declared']);
    expect(of(findings, 'leader')).toEqual(['warn no controller has ever run on this store']);
    expect(of(findings, 'registry')).toEqual([`ok ${dir}/registry: 1 plugin`]);
    expect(of(findings, 'engine default')).toEqual([
      `ok unix://${dir}/none.sock does not answer (ENOENT), and no workspace is on it`,
    ]);
    expect(of(findings, 'workspace default/alice')).toContain(
      `ok directory ${dir}/root/alice was looked at: 0 plugins; 1 change to make`,
    );
  });

  it('says what is wrong with the configuration, and goes on with what needs none', async () => {
    given = {
      config: await file('plugset.yaml', 'apiVersion: plugset.dev/v1alpha1\nkind: Configuration\nlimit: {}\n'),
    };
    const findings = await look();
    expect(of(findings, 'configuration')).toEqual([
      expect.stringContaining(`FAIL ${dir}/plugset.yaml:3:1: limit: unknown key`),
    ]);
    expect(of(findings, 'version')[0]).toMatch(/^ok /);
    expect(findings.map(({ check }) => check)).not.toContain('store');
  });

  it('says that the store cannot be read, once, and looks at the rest', async () => {
    await rm(join(dir, 'w'), { recursive: true });
    const findings = await look();
    expect(of(findings, 'store')).toEqual([expect.stringMatching(/^FAIL there is no directory .*\(--files\)/)]);
    expect(of(findings, 'workspaces')).toEqual([]);
    expect(of(findings, 'git')[0]).toMatch(/^ok git version/);
    expect(of(findings, 'engine default')[0]).toMatch(/^warn /);
  });

  it('says that all files are gone at once, and that nothing is concluded from it', async () => {
    const names = ['alice', 'bob'];
    for (const name of names) await declare(name, 'target: {external: {}}');
    const store = await openStore(configFrom(given), { role: 'controller', logger: new RecordingLogger() });
    await store.store.list(new AbortController().signal);
    await store.close();
    for (const name of names) await rm(join(dir, `w/${name}.yaml`));
    const findings = await look();
    expect(of(findings, 'store')).toEqual([
      expect.stringMatching(/^FAIL .*\(--files\) came back empty, and 2 were declared: .* store\.allowEmpty$/),
    ]);
    expect(of(findings, 'workspaces')).toEqual(['ok 2 declared']);
  });

  it('tells what the fleet needs and has not', async () => {
    await declare('a', 'target: {docker: {engine: other}}\n  plugins: [{name: x, source: "gitea://o/r#v1"}]');
    await declare(
      'b',
      'target: {directory: {path: /srv/b}}\n  plugins: [{name: x, source: "git+ssh://git@h/o/r.git#v1"}]',
    );
    await declare('c', 'runtim: x');
    const findings = await look();
    expect(of(findings, 'workspaces')).toEqual(['ok 3 declared', 'warn 1 cannot be used: default/c']);
    expect(of(findings, 'containers')).toEqual(['FAIL workspaces name engines that are not configured: other']);
    expect(of(findings, 'roots')).toEqual(['FAIL workspaces are directories, and no root is allowed']);
    expect(of(findings, 'sources')).toEqual([
      'FAIL plugins come from gitea://, and the setting for it is missing',
      'FAIL plugins come from git+ssh://, and the setting for it is missing',
    ]);
  });

  it('looks at every file it is told of, and shows nothing of what is in it', async () => {
    const secretFile = await file('secret', 'short', 0o600);
    const config = await file(
      'plugset.yaml',
      `apiVersion: plugset.dev/v1alpha1
kind: Configuration
notifications: {webhook: {url: "http://127.0.0.1:1/hook?key=hush-hush", secretFile: ${secretFile}}}
`,
    );
    const credentials = await file('credentials', 'https://u:hush-hush@h\nhttps://nobody\n', 0o644);
    given = {
      ...given,
      config,
      gitCredentials: [credentials],
      knownHosts: await file('hosts', '# none\n'),
      sshKey: join(dir, 'no-key'),
      caFile: await file('ca.pem', 'no certificate'),
      registry: [join(dir, 'registry'), join(dir, 'no-registry')],
      root: [join(dir, 'no-root')],
      gitRoot: [join(dir, 'no-git')],
    };
    const findings = await look();
    expect(of(findings, 'git credentials')).toEqual([
      `warn ${credentials}: 1 of 2 lines cannot be used`,
      `warn ${credentials}: others can read it (mode 0644)`,
    ]);
    expect(of(findings, 'known hosts')).toEqual([`FAIL ${dir}/hosts holds no host key: every host is refused`]);
    expect(of(findings, 'ssh key')).toEqual([`FAIL ${dir}/no-key cannot be read (ENOENT)`]);
    expect(of(findings, 'CA file')).toEqual([`FAIL ${dir}/ca.pem holds no certificate`]);
    expect(of(findings, 'registry')).toEqual([
      `warn ${dir}/registry holds no plugin`,
      `FAIL ${dir}/no-registry cannot be read (ENOENT)`,
    ]);
    expect(of(findings, 'root')).toEqual([`FAIL ${dir}/no-root cannot be looked into (ENOENT)`]);
    expect(of(findings, 'git root')).toEqual([`FAIL ${dir}/no-git cannot be read (ENOENT)`]);
    expect(of(findings, 'webhook')).toEqual([
      `FAIL ${secretFile} holds less than 16 characters`,
      'warn http://127.0.0.1:1 takes no connection (ECONNREFUSED)',
    ]);
    expect(findings.filter(({ result, fix }) => result !== 'ok' && fix === undefined)).toEqual([]);
    expect(JSON.stringify(findings)).not.toContain('hush-hush');
  });

  it.skipIf(!hasOpenssl() && process.env['CI'] !== 'true')('reads certificates, and says when they end', async () => {
    const authority = await TestAuthority.create();
    const { cert } = await authority.certify('DNS:localhost', -1);
    given = { ...given, caFile: authority.caFile };
    expect(of(await look(), 'CA file')[0]).toMatch(/^(?:ok|warn) .*ca\.pem: 1 certificate, good until 2/);
    given = { ...given, caFile: await file('old.pem', cert) };
    expect(of(await look(), 'CA file')[0]).toMatch(/^warn .*old\.pem: a certificate ended on 2/);
  });

  it('is not held up by an engine that hangs', async () => {
    const hanging = createServer((socket) => void socket.resume());
    servers.push(hanging);
    const socket = join(dir, 'docker.sock');
    await new Promise<void>((resolve) => hanging.listen(socket, resolve));
    await declare('a', 'target: {docker: {}}\n  plugins: []');
    given = { ...given, dockerHost: [`unix://${socket}`] };
    const findings = await look();
    expect(of(findings, 'engine default')[0]).toMatch(/^FAIL .*docker\.sock does not answer \(/);
    expect(of(findings, 'cache')[0]).toMatch(/^ok /);
  });

  it('is not held up by a database that hangs', async () => {
    const hanging = createServer((socket) => void socket.resume());
    servers.push(hanging);
    await new Promise<void>((resolve) => hanging.listen(0, '127.0.0.1', resolve));
    const { port } = hanging.address() as AddressInfo;
    given = { ...given, files: undefined, database: `postgres://u:hush-hush@127.0.0.1:${port}/d` };
    const findings = await look();
    expect(of(findings, 'database')[0]).toMatch(/^FAIL .*\(StoreUnavailable\)$/);
    expect(of(findings, 'store')[0]).toMatch(/^FAIL .*\(StoreUnavailable\)$/);
    expect(of(findings, 'engine default')[0]).toMatch(/^warn .*ENOENT/);
    expect(of(findings, 'git')[0]).toMatch(/^ok git version/);
    expect(JSON.stringify(findings)).not.toContain('hush-hush');
  });

  it('says what makes a container the one of a workspace', async () => {
    await declare('a', 'target: {docker: {}}\n  plugins: []');
    expect(of(await look(), 'containers')).toEqual([
      'ok proven by the label plugset.dev/workspace, or without it the name ws- and 12 characters of spec.id',
    ]);
    const strict = 'targets: {docker: {trustIds: false, containers: [{workspace: default/a, container: x}]}}';
    const config = await file('strict.yaml', `apiVersion: plugset.dev/v1alpha1\nkind: Configuration\n${strict}\n`);
    given = { ...given, config };
    expect(of(await look(), 'containers')).toEqual([
      'ok proven by the label plugset.dev/workspace with NAMESPACE/NAME; 1 by the configuration',
    ]);
  });

  it('says whom a socket lets in', async () => {
    const closed = createServer();
    servers.push(closed);
    const socket = join(dir, 'docker.sock');
    await new Promise<void>((resolve) => closed.listen(socket, resolve));
    await declare('a', 'target: {docker: {}}\n  plugins: []');
    given = { ...given, dockerHost: [`unix://${socket}`] };
    const findings = await asNobody([socket], look);
    expect(findings.find(({ check }) => check === 'engine default')).toMatchObject({
      result: 'FAIL',
      seen: `unix://${socket} does not answer (EACCES)`,
      fix: expect.stringMatching(/add that user to the group that owns it \(docker\)/),
    });
  });

  it('asks the daemon of this machine how it is', async () => {
    const answers: Readonly<Record<string, [number, string]>> = {
      '/livez?verbose': [200, '[+]loops ok\nlivez check passed\n'],
      '/readyz?verbose': [500, '[+]loops ok\n[-]store failed: it does not answer\nreadyz check failed\n'],
    };
    const server = createHttpServer((request, response) => {
      const [status, body] = answers[request.url ?? ''] ?? [404, ''];
      response.writeHead(status).end(body);
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    given = { ...given, listen: `127.0.0.1:${port}` };
    expect(of(await look(), 'daemon')).toEqual([
      `FAIL the one at 127.0.0.1:${port} is not well: [-]store failed: it does not answer`,
    ]);
  });

  it('knows the daemon of another store from its own', async () => {
    let authority = 'store-of-others';
    const server = createHttpServer((request, response) => {
      const isAsked = request.url?.startsWith('/wakeup') === true;
      response.end(isAsked ? JSON.stringify({ authority, queue: { state: 'absent' }, failures: 0 }) : 'ok');
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    given = { ...given, listen: `127.0.0.1:${port}`, authority: 'store-of-ours' };
    expect(of(await look(), 'daemon')).toEqual([
      `warn the one at 127.0.0.1:${port} belongs to another store (authority store-of-others; this store's: store-of-ours)`,
    ]);
    authority = 'store-of-ours';
    expect(of(await look(), 'daemon')).toEqual([`ok the one at 127.0.0.1:${port} is alive and ready`]);
  });

  it('says of one workspace why nothing comes of it', async () => {
    await declare('alice', `target: {directory: {path: ${dir}/elsewhere}}\n  plugins: []`);
    given = { ...given, root: [join(dir, 'root')] };
    const findings = await look('alice');
    expect(of(findings, 'workspace default/alice')[0]).toMatch(/^FAIL .*not below a root.*\(TargetNotAllowed\)$/);
    expect(of(await look('bob'), 'workspace default/bob')).toEqual(['FAIL it is not declared']);
  });
});

await withBackend('postgres', (url) => {
  describe('doctor', () => {
    it('looks at a database: its version, its clock, its schema', async () => {
      const database = await freshDatabase(url);
      try {
        given = { ...given, files: undefined, database: database.url };
        const findings = await look();
        expect(of(findings, 'database')).toEqual([
          expect.stringMatching(/^ok database test_.*: Postgres \d+.*, answers in \d+ ms$/),
          'ok this clock and that of the database agree within 5 s',
        ]);
        expect(of(findings, 'store')).toEqual(['ok its schema is the one of this version']);
        expect(of(findings, 'workspaces')).toEqual(['warn none is declared']);
      } finally {
        await database.drop();
      }
    });

    it('says that the schema is missing, and that the server does not answer', async () => {
      const database = await freshDatabase(url, { migrated: false });
      try {
        given = { ...given, files: undefined, database: database.url };
        const findings = await look();
        expect(of(findings, 'database')[0]).toMatch(/^ok /);
        expect(of(findings, 'store')).toEqual([expect.stringMatching(/^FAIL .*holds nothing of plugset yet/)]);
      } finally {
        await database.drop();
      }
      given = { ...given, database: 'postgres://u:hush-hush@127.0.0.1:1/d' };
      const findings = await look();
      expect(of(findings, 'database')[0]).toMatch(/^FAIL .*127\.0\.0\.1:1.*\(StoreUnavailable\)$/);
      expect(JSON.stringify(findings)).not.toContain('hush-hush');
    });
  });
});

await withBackend('docker', (address) => {
  describe('doctor', () => {
    it('looks at an engine', async () => {
      given = { ...given, dockerHost: [address] };
      expect(of(await look(), 'engine default')).toEqual([
        expect.stringMatching(
          /^ok .*: Docker \S+, API 1\.\d+; \d+ containers? run, \d+ labelled plugset\.dev\/workspace$/,
        ),
      ]);
    });
  });
});

const NOBODY = 65_534;

/** Root is let in everywhere: for that long this process is somebody else, who may see the directory and not the files. */
async function asNobody<T>(files: readonly string[], act: () => Promise<T>): Promise<T> {
  await chmod(dir, 0o755);
  for (const path of files) await chmod(path, 0o000);
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(NOBODY);
  try {
    return await act();
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
}
