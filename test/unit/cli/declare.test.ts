import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { runInProcess } from '../../support/run-cli.ts';
import { CliBench, manifest, READY, statusWith } from './fixtures.ts';

let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'plugset-cli-'));
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(dir, { recursive: true });
});

async function put(name: string, text: string): Promise<string> {
  const path = join(dir, name);
  await mkdir(join(path, '..'), { recursive: true });
  await writeFile(path, text);
  return path;
}

function yaml(name: string, source = 'superpowers', extra = ''): string {
  return `apiVersion: plugset.dev/v1alpha1
kind: Workspace
metadata: {name: ${name}}
spec:
  runtime: claude-code
  target: {external: {}}
  plugins:
    - {name: superpowers, source: '${source}'}
${extra}`;
}

describe('validate', () => {
  it('says how much it has checked', async () => {
    await put('a/alice.yaml', `${yaml('alice')}---\n${yaml('bob')}`);
    const json = await put('carol.json', JSON.stringify(manifest('carol')));
    await put('README.md', 'not a declaration');
    await put('.git/config.yaml', ']');
    expect(await runInProcess(['validate', dir, json])).toEqual({
      code: 0,
      stdout: '2 files, 3 workspaces, no problems\n',
      stderr: '',
    });
  });

  it('prints file, line and column of each problem', async () => {
    const path = await put('alice.yaml', yaml('alice', '../x', '  colour: red\n'));
    const second = await put('bob.yaml', yaml('bob', 'bad source'));
    const twice = await put('twice.yaml', `# again\n${yaml('bob')}`);
    expect(await runInProcess(['validate', dir])).toEqual({
      code: 1,
      stdout:
        `${path}:9:3: spec.colour: unknown key; allowed here: id, runtime, target, plugins, policy, suspend\n` +
        `${second}:8:1: plugin superpowers: "bad source" is neither a plugin name nor scheme://spec\n` +
        `${twice}:2:1: workspace default/bob is declared already in ${second}:1\n`,
      stderr: '3 files, 3 workspaces, 3 problems\n',
    });
  });

  it('knows the runtimes that are built in or in the configuration, and says which', async () => {
    const text = yaml('alice')
      .replace('claude-code', 'claude-cod')
      .replace('{external: {}}', '{directory: {path: /a}}');
    const path = await put('alice.yaml', text);
    await put('bob.yaml', yaml('bob').replace('claude-code', 'its-own-affair'));
    await put('carol.yaml', yaml('carol').replace('claude-code', 'claude_code'));
    const { code, stdout } = await runInProcess(['validate', dir]);
    expect(code).toBe(1);
    expect(stdout).toBe(
      `${path}:5:12: spec.runtime: claude-cod has no profile; known: claude-code, hermes, langgraph, deepagents, crewai, autogen, openclaw (--config can add others)\n`,
    );
    const config = join(dir, 'plugset.conf');
    await writeFile(
      config,
      'apiVersion: plugset.dev/v1alpha1\nkind: Configuration\nprofiles: [{runtime: claude-cod}]\n',
    );
    expect(await runInProcess(['validate', dir, '--config', config])).toMatchObject({ code: 0 });
  });

  it('knows the engines where the configuration of the daemon names them', async () => {
    const text = yaml('alice').replace('{external: {}}', '{docker: {engine: two}}');
    const path = await put('alice.yaml', `${text}---\n${yaml('bob').replace('{external: {}}', '{docker: {}}')}`);
    expect((await runInProcess(['validate', dir])).code).toBe(0);
    const config = join(dir, 'plugset.conf');
    await writeFile(
      config,
      'apiVersion: plugset.dev/v1alpha1\nkind: Configuration\ntargets: {docker: {engines: [{address: "unix:///x"}]}}\n',
    );
    expect((await runInProcess(['validate', dir, '--config', config])).stdout).toBe(
      `${path}:6:11: spec.target: engine two is not configured; known: default\n`,
    );
  });

  it('knows the hosts where the configuration of the daemon allows them', async () => {
    const on = (name: string, target: string): string => yaml(name).replace('{external: {}}', `{ssh: {${target}}}`);
    const path = await put(
      'hosts.yaml',
      [
        on('alice', 'host: alice.example.com'),
        on('bob', 'host: bob.example.org'),
        on('carol', 'host: docker.example.com'),
        on('dave', 'host: dave.example.com, user: root'),
      ].join('---\n'),
    );
    expect((await runInProcess(['validate', dir])).code).toBe(0);
    const config = join(dir, 'plugset.conf');
    await writeFile(
      config,
      'apiVersion: plugset.dev/v1alpha1\nkind: Configuration\ntargets: {ssh: [' +
        '{hosts: [docker.example.com], for: engines}, {hosts: [alice.example.com, dave.example.com], user: ubuntu}]}\n',
    );
    const { stdout } = await runInProcess(['validate', dir, '--config', config]);
    expect(stdout.replaceAll(/^\S+: /gm, '').split('\n')).toEqual([
      'spec.target: workspace default/bob names the host bob.example.org, which the operator has not allowed for it (targets.ssh)',
      'spec.target: workspace default/carol names the host docker.example.com, which the operator has not allowed for it (targets.ssh)',
      'spec.target: workspace default/dave names the user root of dave.example.com; the operator has allowed ubuntu (targets.ssh)',
      '',
    ]);
    expect(stdout).toContain(path);
  });

  it('finds two workspaces on one target', async () => {
    const on = (name: string, target: string): string => yaml(name).replace('{external: {}}', target);
    const first = await put('a.yaml', on('a', '{docker: {container: one}}'));
    const second = await put('b.yaml', on('b', '{docker: {container: one, engine: default}}'));
    await put('c.yaml', on('c', '{docker: {container: one, engine: two}}'));
    await put(
      'd.yaml',
      `${on('d', '{directory: {path: /srv/d}}')}---\n${on('e', '{directory: {path: /srv/x/../d/}}')}`,
    );
    await put('f.yaml', `${on('f', '{docker: {}}')}---\n${on('g', '{docker: {}}')}---\n${yaml('h')}---\n${yaml('i')}`);
    expect((await runInProcess(['validate', dir])).stdout).toBe(
      `${second}:6:11: spec.target: container one on engine default is the target of workspace default/a too (${first}:6:11)\n` +
        `${dir}/d.yaml:15:11: spec.target: directory /srv/d is the target of workspace default/d too (${dir}/d.yaml:6:11)\n`,
    );
  });

  it('refuses what only plugset writes, and says to take it out', async () => {
    const path = await put(
      'alice.yaml',
      `${yaml('alice').replace('{name: alice}', '{name: alice, generation: 3}')}status: {}\n`,
    );
    const { code, stdout } = await runInProcess(['validate', path]);
    expect(code).toBe(1);
    const message = 'only plugset writes this; take it out (plugset apply passes over it)';
    expect(stdout.trim().split('\n').toSorted()).toEqual([
      `${path}:3:25: metadata.generation: ${message}`,
      `${path}:9:1: status: ${message}`,
    ]);
  });

  it('reads standard input', async () => {
    const { code, stdout } = await runInProcess(['validate', '-', '-o', 'json'], { stdin: 'kind: [' });
    expect(code).toBe(1);
    const { problems } = JSON.parse(stdout) as { problems: readonly string[] };
    expect(problems[0]).toMatch(/^stdin:1:\d+: /);
  });

  it('wants a ref of remote sources, unless a variable that is not false says otherwise', async () => {
    await put('alice.yaml', yaml('alice', 'github://o/r'));
    vi.stubEnv('PLUGSET_ALLOW_UNPINNED', 'false');
    expect((await runInProcess(['validate', dir])).stdout).toContain('no branch, tag or commit');
    expect((await runInProcess(['validate', dir, '--allow-unpinned'])).code).toBe(0);
    vi.stubEnv('PLUGSET_ALLOW_UNPINNED', 'true');
    expect((await runInProcess(['validate', dir])).code).toBe(0);
  });

  it('is a commit check on any machine, whatever its DATABASE_URL is there for', async () => {
    await put('alice.yaml', yaml('alice'));
    vi.stubEnv('DATABASE_URL', 'mysql://somebody@else/app');
    expect((await runInProcess(['validate', dir])).code).toBe(0);
  });

  it('refuses to take nothing for success', async () => {
    expect(await runInProcess(['validate', dir])).toEqual({
      code: 1,
      stdout: '',
      stderr: `error: ${dir}: no .yaml or .yml file below this directory\n`,
    });
    expect((await runInProcess(['validate', join(dir, 'no.yaml')])).stderr).toBe(
      `error: ${join(dir, 'no.yaml')}: does not exist\n`,
    );
  });

  it('refuses files that are too large or no text, without reading on', async () => {
    const large = await put('large.yaml', '#'.repeat(1024 * 1024 + 1));
    const binary = join(dir, 'binary.yaml');
    await writeFile(binary, Buffer.from([0xff, 0xfe, 0x00]));
    const { stdout } = await runInProcess(['validate', large, binary]);
    expect(stdout).toBe(`${large}:1:1: larger than 1 MiB; refused\n${binary}:1:1: is not UTF-8 text\n`);
  });
});

describe('apply', () => {
  it('writes every workspace of files, directories and standard input', async () => {
    const bench = new CliBench();
    const path = await put('alice.yaml', `${yaml('alice')}---\n${yaml('bob')}`);
    expect(await bench.run(['apply', '-f', path])).toEqual({
      code: 0,
      stdout: 'workspace default/alice created\nworkspace default/bob created\n',
      stderr: '',
    });
    expect((await bench.run(['apply', '-f', '-', dir, '-n', 'team-a'], { stdin: yaml('zoe') })).stdout).toBe(
      'workspace team-a/zoe created\nworkspace team-a/alice created\nworkspace team-a/bob created\n',
    );
    await put('alice.yaml', yaml('alice', 'other'));
    expect((await bench.run(['apply', '-f', path])).stdout).toBe('workspace default/alice configured\n');
    expect((await bench.run(['apply', '-f', path])).stdout).toBe('workspace default/alice unchanged\n');
    expect(bench.closed).toBe(4);
  });

  it('writes nothing when anything is wrong', async () => {
    const bench = new CliBench();
    await put('alice.yaml', yaml('alice'));
    const wrong = await put('bob.yaml', yaml('Bob'));
    const { code, stdout, stderr } = await bench.run(['apply', '-f', dir]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(
      new RegExp(`^error: nothing was written, because of\n  ${wrong}:3:18: metadata.name: must be`),
    );
    expect(bench.backend.rows.size).toBe(0);
  });

  it('takes back what status has printed, edited or not, and nothing else that is unknown', async () => {
    const bench = new CliBench();
    bench.declare(manifest('alice'), READY);
    for (const format of ['yaml', 'json']) {
      const { stdout } = await bench.run(['status', 'alice', '-o', format]);
      expect(stdout).toMatch(/generation/);
      const edited = stdout.replace('#v4', `#v5-${format}`);
      expect(await bench.run(['apply', '-f', '-'], { stdin: edited })).toEqual({
        code: 0,
        stdout: 'workspace default/alice configured\n',
        stderr: '',
      });
      const { stdout: after } = await bench.run(['status', 'alice', '-o', format]);
      expect(after).toContain(`#v5-${format}`);
      expect(await bench.run(['apply', '-f', '-'], { stdin: after })).toMatchObject({
        stdout: 'workspace default/alice unchanged\n',
      });
      bench.declare(manifest('alice'), READY);
    }
    const { stdout } = await bench.run(['status', 'alice', '-o', 'yaml']);
    const strange = stdout
      .replace('metadata:', 'metadata:\n  colour: red')
      .replace(/^status:/m, 'colour: red\nstatus:');
    const { code, stderr } = await bench.run(['apply', '-f', '-'], { stdin: strange });
    expect(code).toBe(1);
    expect(stderr).toMatch(/stdin:4:3: metadata\.colour: unknown key/);
    expect(stderr).toMatch(/stdin:\d+:1: colour: unknown key/);
  });

  it('takes back a list of several, and says where one of them is wrong', async () => {
    const bench = new CliBench();
    for (const name of ['alice', 'bob']) bench.declare(manifest(name), READY);
    const { stdout } = await bench.run(['status', '-o', 'yaml']);
    expect(stdout).toMatch(/^kind: List$/m);
    expect((await bench.run(['apply', '-f', '-'], { stdin: stdout.replaceAll('#v4', '#v5') })).stdout).toBe(
      'workspace default/alice configured\nworkspace default/bob configured\n',
    );
    const wrong = stdout.replace('runtime: claude-code', 'colour: red');
    const line = wrong.split('\n').findIndex((text) => text.includes('colour')) + 1;
    const { code, stderr } = await bench.run(['apply', '-f', '-'], { stdin: wrong });
    expect(code).toBe(1);
    expect(stderr).toContain(`  stdin:${line}:7: spec.colour: unknown key;`);
    expect((await bench.run(['delete', '-f', '-'], { stdin: stdout })).stdout).toBe(
      'workspace default/alice deleted\nworkspace default/bob deleted\n',
    );
    const path = await put('list.yaml', stdout);
    expect((await runInProcess(['validate', path])).code).toBe(1);
  });

  it('says so when a file declares nothing', async () => {
    const path = await put('empty.yaml', '# later\n');
    expect((await new CliBench().run(['apply', '-f', path])).stderr).toBe(
      `error: no workspace is declared in ${path}\n`,
    );
  });
});

describe('delete', () => {
  it('takes out what is named or declared in a file', async () => {
    const bench = new CliBench();
    for (const name of ['alice', 'bob', 'carol']) bench.declare(manifest(name));
    const path = await put('bob.yaml', yaml('bob'));
    expect(await bench.run(['delete', 'alice', '-f', path])).toEqual({
      code: 0,
      stdout: 'workspace default/alice deleted\nworkspace default/bob deleted\n',
      stderr: '',
    });
    expect([...bench.backend.rows.values()].filter((row) => row.deleting)).toHaveLength(2);
  });

  it('fails for what is not declared, unless told that this is fine', async () => {
    const bench = new CliBench();
    bench.declare(manifest('alice'));
    expect(await bench.run(['delete', 'nobody', 'alice'])).toEqual({
      code: 1,
      stdout: 'workspace default/alice deleted\n',
      stderr: 'error: workspace default/nobody is not declared; `plugset status` lists what is declared\n',
    });
    expect(await bench.run(['delete', 'nobody', '--ignore-not-found'])).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  it('says of a removal that is under way since when, and what it waits for', async () => {
    const bench = new CliBench();
    const key = bench.declare(manifest('alice'), READY);
    await bench.run(['delete', 'alice']);
    await bench.clock.advance(250_000);
    const again = async (): Promise<string> => {
      const { code, stdout, stderr } = await bench.run(['delete', 'alice']);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      return stdout;
    };
    expect(await again()).toBe(
      'workspace default/alice is being removed already: since 4m10s, waits for the pass of a daemon that cleans its target\n',
    );
    const unreachable = statusWith([['Ready', 'False', 'Unreachable', 'engine default does not answer']], {}, 2);
    bench.report(key, unreachable);
    expect(await again()).toBe(
      'workspace default/alice is being removed already: since 4m10s, held up: engine default does not answer\n',
    );
  });

  it('deletes nothing on the word of a file that cannot be read, or of nobody', async () => {
    const bench = new CliBench();
    bench.declare(manifest('alice'));
    const path = await put('alice.yaml', `${yaml('alice')}---\nkind: [`);
    const { code, stderr } = await bench.run(['delete', '-f', path]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: nothing was deleted, because of\n/);
    expect((await bench.run(['delete'])).stderr).toBe('error: which workspace? Give its NAME, or -f FILE\n');
    expect([...bench.backend.rows.values()].every((row) => !row.deleting)).toBe(true);
  });
});
