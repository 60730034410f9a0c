import { cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parse } from 'yaml';

import { writePlugin } from '../support/plugset.ts';
import { everythingIn } from '../support/temp-dir.ts';
import { Terminal } from '../support/terminal.ts';

/** A fleet that was filled by hand is adopted with the commands that the README tells, and nothing is lost on the way. */
describe('adopting what runs already', () => {
  let base: string;
  let home: string;
  let terminal: Terminal;

  beforeEach(async () => {
    base = await realpath(await mkdtemp(join(tmpdir(), 'plugset-fleet-')));
    home = join(base, 'root/alice');
    terminal = new Terminal();
    for (const dir of ['root/alice/plugins', 'registry', 'files']) await mkdir(join(base, dir), { recursive: true });
    for (const name of ['equal', 'other']) await writePlugin(join(base, 'registry', name), { 'SKILL.md': `${name}\n` });
    await cp(join(base, 'registry/equal'), join(home, 'plugins/equal'), { recursive: true });
    await writePlugin(join(home, 'plugins/other'), { 'SKILL.md': 'edited by hand\n' });
    await writePlugin(join(home, 'plugins/mine'), {
      'SKILL.md': 'of unknown origin\n',
      'plugin.yaml': 'version: 1.2.0\n',
    });
    for (const name of ['DATABASE_URL', 'PLUGSET_CONFIG']) vi.stubEnv(name, '');
    vi.stubEnv('PLUGSET_FILES', join(base, 'files'));
    vi.stubEnv('PLUGSET_STATE_DIR', join(base, 'state'));
    vi.stubEnv('PLUGSET_CACHE_DIR', join(base, 'cache'));
    vi.stubEnv('PLUGSET_ROOT', join(base, 'root'));
    vi.stubEnv('PLUGSET_REGISTRY', join(base, 'registry'));
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await rm(base, { recursive: true, force: true });
  });

  const declare = (plugins: string, policy: string, annotations = '{}'): Promise<void> =>
    writeFile(
      join(base, 'files/alice.yaml'),
      `apiVersion: plugset.dev/v1alpha1
kind: Workspace
metadata: {name: alice, labels: {org: acme}, annotations: ${annotations}}
spec:
  runtime: claude-code
  target: {directory: {path: '${home}'}}
  plugins: ${plugins}
  policy: ${policy}
`,
    );
  const everything = async (): Promise<unknown> => {
    const paths = await everythingIn(home);
    return Promise.all(
      paths.map(async (path) => {
        const full = join(home, path);
        const { mode, mtimeMs, ino, uid } = await stat(full);
        const content = await readFile(full, 'utf8').catch(() => '');
        return { path, mode, mtimeMs, ino, uid, content };
      }),
    );
  };

  it('observe, import, plan, apply: equal trees are adopted as they lie, others wait, nothing foreign is touched', async () => {
    const before = await everything();
    await declare('[]', '{mode: Observe}');
    expect((await terminal.run(['once'])).code).toBe(0);
    expect(await everything(), 'observing changes nothing').toEqual(before);

    const imported = await terminal.run(['import', 'alice']);
    expect(imported).toMatchObject({
      code: 0,
      stderr: 'no source is known of mine, other: left as comments at the end\n',
    });
    expect(parse(imported.stdout)).toMatchObject({
      metadata: { name: 'alice', namespace: 'default', labels: { org: 'acme' } },
      spec: { policy: { mode: 'Observe' }, plugins: [{ name: 'equal', source: 'local://equal' }] },
    });
    expect(imported.stdout).toMatch(/^# {4}- \{name: mine, source: …\} # version 1\.2\.0$/m);
    expect(imported.stdout).toMatch(/\{name: other, source: …\} # .*local:\/\/other has other files/);
    expect(await everything(), 'neither does importing').toEqual(before);

    await writeFile(
      join(base, 'files/alice.yaml'),
      imported.stdout.replace('- name: equal', '- {name: other, source: other}\n    - name: equal'),
    );
    const plan = await terminal.run(['plan']);
    expect(plan.stdout).toMatch(/= adopt +equal/);
    const observed = await terminal.run(['once']);
    expect(observed.code).toBe(1);
    expect(observed.stdout).toMatch(/NameTaken/);
    expect(await everything(), 'nor does a plan').toEqual(before);

    await declare('[{name: equal, source: equal}, {name: other, source: other}]', '{}');
    await terminal.run(['once']);
    const after = (await everything()) as { path: string }[];
    const foreign = after.filter(({ path }) => path.startsWith('plugins'));
    expect(foreign, 'no byte of any tree has moved').toEqual(before);
    const status = await terminal.run(['status', 'alice', '-o', 'json']);
    expect(JSON.parse(status.stdout)).toMatchObject({
      status: {
        plugins: [
          { name: 'mine', state: 'Unmanaged' },
          { name: 'equal', state: 'Installed', managed: true },
          { name: 'other', state: 'Failed', reason: 'NameTaken' },
        ],
      },
    });

    await declare('[{name: equal, source: equal}, {name: other, source: other}]', '{adopt: Replace}');
    expect((await terminal.run(['once'])).code).toBe(0);
    expect(await readFile(join(home, 'plugins/other/SKILL.md'), 'utf8')).toBe('other\n');
    expect(await readdir(join(home, 'plugins/mine'))).toEqual(['SKILL.md', 'plugin.yaml']);
  });

  it('import keeps what a declaration says about its plugins', async () => {
    await declare('[{name: equal, source: equal, config: {poll_seconds: 30}}]', '{}');
    expect((await terminal.run(['once'])).code).toBe(0);
    const { stdout } = await terminal.run(['import', 'alice']);
    expect(parse(stdout)).toMatchObject({ spec: { plugins: [{ name: 'equal', config: { poll_seconds: 30 } }] } });
  });

  it('plan and approve: what was shown is carried out, and nothing else', async () => {
    await declare('[{name: equal, source: equal}]', '{mode: Plan}');
    await terminal.run(['once']);
    expect(await everythingIn(home)).not.toContain('.plugset');
    const { stdout } = await terminal.run(['status', 'alice', '-o', 'json']);
    const { planId } = (JSON.parse(stdout) as { status: { planId: string } }).status;
    expect((await terminal.run(['approve', 'alice', planId])).code).toBe(0);
    expect((await terminal.run(['once'])).code).toBe(0);
    expect(await readdir(join(home, '.plugset/receipts'))).toEqual(['equal']);

    await declare('[{name: equal, source: equal}, {name: fresh, source: equal}]', '{mode: Plan}');
    await terminal.run(['once']);
    const printed = await terminal.run(['plan', '-o', 'json']);
    await writeFile(join(base, 'plans.json'), printed.stdout);
    expect(await terminal.run(['approve', '-f', join(base, 'plans.json')])).toMatchObject({
      code: 0,
      stderr: 'approved 1 of 1 plan\n',
    });
    expect((await terminal.run(['once'])).code).toBe(0);
    expect(await readdir(join(home, 'plugins'))).toContain('fresh');
  });

  it('a policy that the operator has locked: no declaration changes it, and none approves itself', async () => {
    const config = join(base, 'plugset.yaml');
    await writeFile(
      config,
      'apiVersion: plugset.dev/v1alpha1\nkind: Configuration\npolicy: {mode: Plan}\npolicyLocked: [mode]\n',
    );
    vi.stubEnv('PLUGSET_CONFIG', config);
    await declare('[{name: fresh, source: equal}]', '{mode: Apply}');
    const asked = "policy.mode is Plan (operator's); the declaration asks for Apply";
    const validated = await terminal.run(['validate', join(base, 'files')]);
    expect(validated).toMatchObject({ code: 0, stderr: expect.stringContaining(`default/alice: ${asked}`) });
    expect((await terminal.run(['plan'])).stdout).toContain(`warning: ${asked}`);
    await terminal.run(['once']);
    expect(await readdir(join(home, 'plugins'))).not.toContain('fresh');
    const explained = await terminal.run(['explain', 'alice']);
    expect(explained.stdout).toMatch(/PolicyOverruled is True .*: PolicyLocked\n +policy\.mode is Plan \(operator's\)/);
    expect(explained.stdout).toMatch(/policy +mode Plan \(operator's\), drift Enforce,/);
    const { stdout } = await terminal.run(['status', 'alice', '-o', 'json']);
    const { planId } = (JSON.parse(stdout) as { status: { planId: string } }).status;
    await declare('[{name: fresh, source: equal}]', '{mode: Apply}', `{plugset.dev/approved-plan: '${planId}'}`);
    await terminal.run(['once']);
    expect(await readdir(join(home, 'plugins'))).not.toContain('fresh');
    expect((await terminal.run(['approve', 'alice', planId])).code).toBe(0);
    expect((await terminal.run(['once'])).code).toBe(0);
    expect(await readdir(join(home, 'plugins'))).toContain('fresh');
    expect((await terminal.run(['explain', 'alice'])).stdout).toMatch(/installed fresh .*; approved by \S+@\S+/);
  });

  it('a lost controller: its targets say who they were managed by, and takeover hands them over', async () => {
    await declare('[{name: fresh, source: equal}]', '{}');
    expect((await terminal.run(['once'])).code).toBe(0);
    await rm(join(base, 'state'), { recursive: true });
    const refused = await terminal.run(['once']);
    expect(refused).toMatchObject({ code: 1 });
    const { stdout } = await terminal.run(['explain', 'alice']);
    const command = /plugset (takeover default\/alice --from \S+)/.exec(stdout)?.[1] ?? '';
    const authority = /--from (\S+)/.exec(command)?.[1] ?? '';
    await declare('[{name: fresh, source: equal}]', '{}', `{plugset.dev/takeover: ${authority}}`);
    expect((await terminal.run(['once'])).code, 'a declaration cannot ask for it').toBe(1);
    expect((await terminal.run(['takeover', 'alice', '--from', 'somebody-else'])).code).toBe(0);
    expect((await terminal.run(['once'])).code, 'only from whom is named').toBe(1);
    const preview = await terminal.run([...command.split(' '), '--dry-run']);
    expect(preview.stdout).toMatch(/directory \S+ would be taken over from \S+, with 1 plugin: fresh\n$/);
    expect((await terminal.run(['once'])).code, 'that was all that it did').toBe(1);
    expect((await terminal.run(command.split(' '))).code).toBe(0);
    expect((await terminal.run(['once'])).code).toBe(0);
    expect((await terminal.run(['explain', 'alice'])).stdout).toMatch(/took the target over from \S+/);
    expect((await terminal.run(['once'])).code).toBe(0);
  });

  it('a pause holds over processes', async () => {
    await declare('[{name: fresh, source: equal}]', '{}');
    await terminal.run(['pause', '--reason', 'a test']);
    expect((await terminal.run(['once'])).stdout).toMatch(/Paused/);
    expect(await readdir(join(home, 'plugins'))).not.toContain('fresh');
    await terminal.run(['resume']);
    expect((await terminal.run(['once'])).code).toBe(0);
    expect(await readdir(join(home, 'plugins'))).toContain('fresh');
  });
});
