import { chmod, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { writePlugin } from '../support/plugset.ts';
import { Terminal } from '../support/terminal.ts';

describe('commands and what they find in a store', () => {
  let base: string;
  let terminal: Terminal;

  beforeEach(async () => {
    base = await realpath(await mkdtemp(join(tmpdir(), 'plugset-stores-')));
    terminal = new Terminal();
    for (const dir of ['root', 'root/alice', 'registry', 'files']) await mkdir(join(base, dir));
    await writePlugin(join(base, 'registry/superpowers'), { 'SKILL.md': '# one\n' });
    for (const name of ['DATABASE_URL', 'PLUGSET_FILES', 'PLUGSET_CONFIG']) vi.stubEnv(name, '');
    vi.stubEnv('PLUGSET_STATE_DIR', join(base, 'state'));
    vi.stubEnv('PLUGSET_CACHE_DIR', join(base, 'cache'));
    vi.stubEnv('PLUGSET_ROOT', join(base, 'root'));
    vi.stubEnv('PLUGSET_REGISTRY', join(base, 'registry'));
  });

  afterEach(async () => {
    vi.unstubAllEnvs();
    await rm(base, { recursive: true, force: true });
  });

  const alice = (): string => `# why alice
apiVersion: plugset.dev/v1alpha1
kind: Workspace
metadata: {name: alice}
spec:
  runtime: claude-code
  target: {directory: {path: '${base}/root/alice'}}
  plugins:
    - {name: superpowers, source: superpowers} # the reviewed one
`;

  describe('files', () => {
    it('a directory that is not there is one message, of every command', async () => {
      vi.stubEnv('PLUGSET_FILES', join(base, 'nowhere'));
      for (const argv of [['status'], ['explain', 'alice'], ['plan'], ['reconcile', 'alice'], ['delete', 'alice']]) {
        const { code, stdout, stderr } = await terminal.run(argv);
        expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
        expect(stderr.split('\n')[0]).toBe(
          `error: there is no directory ${base}/nowhere (PLUGSET_FILES); make it, or name another one (StoreUnavailable)`,
        );
      }
      expect(terminal.logger.lines).toEqual([]);
    });

    it('a broken file is a row of status, and one line that says how to see more', async () => {
      vi.stubEnv('PLUGSET_FILES', join(base, 'files'));
      await writeFile(join(base, 'files/alice.yaml'), alice().replace('runtime', 'runtmie'));
      await writeFile(join(base, 'files/carol.yaml'), 'kind: [');
      const { code, stdout } = await terminal.run(['status']);
      expect(code).toBe(0);
      expect(stdout).toMatch(/alice +False +InvalidSpec/);
      const [warning, ...others] = terminal.logger.at('warn').map(({ message }) => message);
      expect(others).toEqual([]);
      expect(warning).toMatch(/^there are \d problems in the files; `plugset validate .*` shows them$/);
      const [, count, command = ''] = /are (\d).*`plugset (.*)`/.exec(warning ?? '') ?? [];
      expect((await terminal.run(command.split(' '))).stdout.trim().split('\n')).toHaveLength(Number(count));
    });

    it('what status prints can be applied, and the file keeps its comments', async () => {
      vi.stubEnv('PLUGSET_FILES', join(base, 'files'));
      await writeFile(join(base, 'files/alice.yaml'), alice());
      expect((await terminal.run(['once'])).code).toBe(0);
      const { stdout } = await terminal.run(['status', 'alice', '-o', 'yaml']);
      expect(stdout).toMatch(/^status:/m);
      const before = await readFile(join(base, 'files/alice.yaml'), 'utf8');
      expect((await terminal.run(['apply', '-f', '-'], stdout)).stdout).toBe('workspace default/alice unchanged\n');
      expect(await readFile(join(base, 'files/alice.yaml'), 'utf8')).toBe(before);
      const edited = stdout.replace('source: superpowers', 'source: other');
      expect(await terminal.run(['apply', '-f', '-'], edited)).toMatchObject({
        code: 0,
        stdout: 'workspace default/alice configured\n',
      });
      const text = await readFile(join(base, 'files/alice.yaml'), 'utf8');
      expect(text).toMatch(/^# why alice\n/);
      expect(text).toMatch(/source: other.*# the reviewed one/);
      expect(text).not.toMatch(/status|generation/);
      expect((await terminal.run(['validate', join(base, 'files')])).code).toBe(0);
    });

    it('a pass that does not end in time is ended and named', async () => {
      vi.stubEnv('PLUGSET_FILES', join(base, 'files'));
      await writeFile(join(base, 'files/alice.yaml'), alice());
      await mkdir(join(base, 'bin'));
      const script = `#!/bin/bash\necho $$ >'${base}/pid.new' && mv '${base}/pid.new' '${base}/pid'\nexec sleep 600\n`;
      await writeFile(join(base, 'bin/sh'), script);
      await chmod(join(base, 'bin/sh'), 0o755);
      terminal.path = `${join(base, 'bin')}:${terminal.path}`;
      const { code, stdout, stderr } = await terminal.run(['once', '--timeout', '3s']);
      expect(code).toBe(1);
      expect(stdout).toMatch(/alice +Unknown +Progressing .*its pass was under way and was ended/);
      expect(stderr).toBe('error: the time is up (--timeout 3s): still under way: default/alice\n');
      const pid = Number(await readFile(join(base, 'pid'), 'utf8'));
      await eventually(() => expect(() => process.kill(pid, 0)).toThrow(/ESRCH/));
    });
  });

  it('refuses a connection string that is none without repeating it', async () => {
    vi.stubEnv('DATABASE_URL', 'host=127.0.0.1 password=hunter2');
    const { code, stderr } = await terminal.run(['status']);
    expect(code).toBe(1);
    expect(stderr).not.toContain('hunter2');
    expect(stderr).toMatch(/^error: DATABASE_URL: must begin with postgres:/);
    vi.stubEnv('DATABASE_URL', 'postgres://plugset:1/hunter2@127.0.0.1/agents');
    const broken = await terminal.run(['status']);
    expect(broken.stderr).not.toMatch(/hunter2|agents/);
    expect(broken.stderr).toMatch(/^error: DATABASE_URL has a special character .* that must be percent-encoded/);
  });

  it('names the database that does not answer, the variable, and what to do, and never the password', async () => {
    vi.stubEnv('DATABASE_URL', 'postgres://plugset:hunter2@127.0.0.1:1/agents');
    for (const argv of [['status'], ['once'], ['plan'], ['delete', 'alice'], ['reconcile', 'alice']]) {
      const { code, stdout, stderr } = await terminal.run(argv);
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toMatch(
        /^error: database agents at 127\.0\.0\.1:1 \(DATABASE_URL\): nothing listens there; start Postgres, or correct the address/,
      );
      expect(stderr).not.toContain('hunter2');
    }
    expect(JSON.stringify(terminal.logger.lines)).not.toContain('hunter2');
  });
});

await withBackend('postgres', (serverUrl) => {
  describe('commands on a database', () => {
    let database: FreshDatabase;
    let terminal: Terminal;

    beforeEach(async () => {
      database = await freshDatabase(serverUrl, { migrated: false });
      terminal = new Terminal();
      for (const name of ['PLUGSET_FILES', 'PLUGSET_CONFIG']) vi.stubEnv(name, '');
      vi.stubEnv('DATABASE_URL', database.url);
    });

    afterEach(async () => {
      vi.unstubAllEnvs();
      await database.drop();
    });

    const declaration = `apiVersion: plugset.dev/v1alpha1
kind: Workspace
metadata: {name: alice}
spec: {runtime: claude-code, target: {external: {}}, plugins: []}
`;
    const schemas = async (): Promise<number> =>
      (await database.sql(`select from pg_namespace where nspname = 'plugset'`)).length;

    it('a command that looks leaves an empty database empty, and says what to do', async () => {
      for (const argv of [['status'], ['explain', 'alice'], ['plan'], ['reconcile', 'alice'], ['delete', 'alice']]) {
        const { code, stdout, stderr } = await terminal.run(argv);
        expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
        expect(stderr).toMatch(
          /^error: database test_\w+ at .* \(DATABASE_URL\) holds nothing of plugset yet.*`plugset apply`/,
        );
      }
      expect(await schemas()).toBe(0);
    });

    it('the first apply makes the schema and says so, once', async () => {
      const first = await terminal.run(['apply', '-f', '-'], declaration);
      expect(first).toMatchObject({ code: 0, stdout: 'workspace default/alice created\n' });
      expect(first.stderr).toMatch(/^made the schema plugset in database test_\w+ at .* \(DATABASE_URL\)\n$/);
      expect(await terminal.run(['apply', '-f', '-'], declaration)).toMatchObject({
        stdout: 'workspace default/alice unchanged\n',
        stderr: '',
      });
      expect((await terminal.run(['status', 'alice'])).code).toBe(0);
    });

    /** Newest migration of this build. */
    const newest = async (): Promise<number> => {
      const [row] = await database.sql<{ version: number }>('select max(version) as version from plugset.migrations');
      return row?.version ?? 0;
    };

    it('an older schema is left to run and once', async () => {
      await terminal.run(['apply', '-f', '-'], declaration);
      const known = await newest();
      await database.sql('delete from plugset.migrations where version = $1', [known]);
      const older = `was set up by an older plugset (schema ${known - 1}, this one knows ${known}): \`plugset run\` or`;
      expect((await terminal.run(['status'])).stderr).toContain(older);
      expect((await terminal.run(['apply', '-f', '-'], declaration)).stderr).toContain(older);
      expect(await newest()).toBe(known - 1);
    });

    it('a database that a newer plugset migrated says: upgrade this binary', async () => {
      await terminal.run(['apply', '-f', '-'], declaration);
      const known = await newest();
      await database.sql(
        `insert into plugset.migrations (version, name, checksum) select n, 'later', 'x' from generate_series($1::int + 1, 12) n`,
        [known],
      );
      const newer = `was migrated by a newer plugset (schema 12, this one knows ${known}): upgrade this binary`;
      for (const argv of [['status'], ['once'], ['apply', '-f', '-']]) {
        const { code, stderr } = await terminal.run(argv, declaration);
        expect(code).toBe(1);
        expect(stderr).toContain(newer);
      }
    });

    it('what status prints can be applied', async () => {
      await terminal.run(['apply', '-f', '-'], declaration);
      expect((await terminal.run(['once'])).code).toBe(0);
      for (const format of ['yaml', 'json']) {
        const { stdout } = await terminal.run(['status', 'alice', '-o', format]);
        expect(await terminal.run(['apply', '-f', '-'], stdout)).toEqual({
          code: 0,
          stdout: 'workspace default/alice unchanged\n',
          stderr: '',
        });
      }
    });

    it('a second delete says that the first is under way', async () => {
      await terminal.run(['apply', '-f', '-'], declaration);
      expect((await terminal.run(['delete', 'alice'])).stdout).toBe('workspace default/alice deleted\n');
      const again = await terminal.run(['delete', 'alice']);
      expect(again).toMatchObject({ code: 0, stderr: '' });
      expect(again.stdout).toMatch(
        /^workspace default\/alice is being removed already: since \d+s, waits for the pass of a daemon/,
      );
    });
  });
});
