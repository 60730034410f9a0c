import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { writePlugin } from '../support/plugset.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const INSTALL_MS = 180_000;

interface Packed {
  readonly filename: string;
  readonly version: string;
  readonly size: number;
  readonly files: readonly { readonly path: string }[];
}

describe('the npm package', () => {
  let dir: string;
  let packed: Packed;

  beforeAll(async () => {
    dir = await realpath(await mkdtemp(join(tmpdir(), 'plugset-package-')));
    const { stdout } = await inDir(ROOT, 'npm', 'pack', '--json', '--ignore-scripts', '--pack-destination', dir);
    [packed] = JSON.parse(stdout) as [Packed];
    await mkdir(join(dir, 'app'));
    // As `npx plugset` does it: no lock of ours, no development dependencies, and no compiler is needed.
    const options = ['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund'];
    await inDir(join(dir, 'app'), 'npm', 'install', ...options, join('..', packed.filename));
  }, INSTALL_MS);
  afterAll(() => rm(dir, { recursive: true, force: true }));

  const run = (...command: readonly string[]): Promise<Run> => inDir(join(dir, 'app'), 'npx', '--no', '--', ...command);
  const plugset = (...args: readonly string[]): Promise<Run> => run('plugset', ...args);

  it('holds the program and what is to be read about it', () => {
    const paths = packed.files.map(({ path }) => path);
    expect(paths).toEqual(
      expect.arrayContaining(['README.md', 'LICENSE', 'CHANGELOG.md', 'package.json', 'dist/main.js']),
    );
    expect(paths).toEqual(expect.arrayContaining(['dist/plugins/apply.sh', 'dist/plugins/look.sh']));
    const others = paths.filter(
      (path) => !/^(?:README\.md|LICENSE|CHANGELOG\.md|package\.json|dist\/.*\.(?:js|sh|sql))$/.test(path),
    );
    expect(others).toEqual([]);
    // 500 kB when this was written.
    expect(packed.size).toBeLessThan(600_000);
  });

  it('runs by npx: says its version, checks a file, and converges a directory', async () => {
    expect((await plugset('--version')).stdout).toBe(`${packed.version}\n`);
    // What kubectl looks for when it is asked for `kubectl plugset`.
    expect((await run('kubectl-plugset', '--version')).stdout).toBe(`${packed.version}\n`);
    await writePlugin(join(dir, 'plugins/greeter'), {
      'plugin.yaml': 'name: greeter\nversion: 1.0.0\n',
      'SKILL.md': 'hello\n',
    });
    await mkdir(join(dir, 'workspaces'));
    await mkdir(join(dir, 'root/alice'), { recursive: true });
    const file = join(dir, 'workspaces/alice.yaml');
    await writeFile(file, ALICE(join(dir, 'root/alice')));
    await plugset('validate', file);
    await writeFile(`${file}.bad`, 'kind: Workspace\n');
    await expect(plugset('validate', `${file}.bad`)).rejects.toMatchObject({ code: 1 });
    await rm(`${file}.bad`);

    const places = ['--root', join(dir, 'root'), '--registry', join(dir, 'plugins')];
    const own = ['--state-dir', join(dir, 'state'), '--cache-dir', join(dir, 'cache')];
    await plugset('once', '--files', join(dir, 'workspaces'), ...places, ...own);
    expect(await readFile(join(dir, 'root/alice/plugins/greeter/SKILL.md'), 'utf8')).toBe('hello\n');
  });
});

const ALICE = (path: string): string => `apiVersion: plugset.dev/v1alpha1
kind: Workspace
metadata: {name: alice}
spec:
  runtime: claude-code
  target: {directory: {path: ${path}}}
  plugins:
    - {name: greeter, source: local://greeter}
`;

interface Run {
  readonly stdout: string;
  readonly stderr: string;
}

/** Without what the npm that may be running this test tells its children: they would take its project for theirs. */
function inDir(cwd: string, command: string, ...args: readonly string[]): Promise<Run> {
  const isTheirs = (name: string): boolean =>
    /^(?:npm_(?!config_(?:registry|cafile|cache$))|INIT_CWD|NODE_ENV|DATABASE_URL|PLUGSET_(?!CI_RUN))/i.test(name);
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !isTheirs(name)));
  return promisify(execFile)(command, [...args], { cwd, env, maxBuffer: 16 * 1024 * 1024 });
}
