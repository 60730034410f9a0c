import { execFile } from 'node:child_process';
import { chmod, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { describe, expect, it } from 'vitest';

import { tempDir } from '../../../support/temp-dir.ts';

const SCRIPT = fileURLToPath(new URL('../../../support/kube/programs.sh', import.meta.url));

/** Stands for the compiler: writes each program in two halves, with a while between them, and counts its work. */
const GO = `#!/bin/sh
case "$1 $2" in
  'list -m') echo plugset.dev/test/kube ;;
  'list -deps') printf 'a\\nb\\n' ;;
  build\\ *)
    [ -z "\${BROKEN:-}" ] || { echo 'main.go:1: no such thing'; exit 1; }
    while [ "$1" != -o ]; do shift; done
    out=$2
    shift 2
    for package; do
      [ "$package" != . ] || package=etcd
      echo "$package" >>"$COUNT"
      echo 'first half' >"$out/\${package##*/}"
      sleep 0.2
      echo 'second half' >>"$out/\${package##*/}"
      chmod 755 "$out/\${package##*/}"
    done
    ;;
esac
`;

describe('programs.sh', () => {
  it('takes what KUBEBUILDER_ASSETS names, and builds what is not there', async () => {
    const { env, count } = await workshop();
    const dir = await tempDir();
    await program(dir, 'etcd');
    const assets = { ...env, KUBEBUILDER_ASSETS: dir };
    expect(await find(['etcd'], assets)).toEqual({ code: 0, stdout: `${dir}\n`, stderr: '' });
    const { code, stdout, stderr } = await find(['kubelet'], assets);
    expect(code).toBe(0);
    expect(stderr).toMatch(/^KUBEBUILDER_ASSETS names a directory without kubelet\nbuilding /);
    expect(await programsIn(stdout.trim())).toEqual(['kubelet']);
    expect(await readFile(count, 'utf8')).toBe('k8s.io/kubernetes/cmd/kubelet\n');
    expect(await programsIn(dir)).toEqual(['etcd']);
  });

  it('names Go where there is none and something has to be built', async () => {
    const { env } = await workshop();
    const bin = await tempDir();
    for (const tool of ['dirname', 'head', 'sed', 'uname']) await symlink(await which(tool), join(bin, tool));
    const { code, stdout } = await find(['etcd', 'kubectl'], { ...env, PATH: bin });
    expect(code).toBe(3);
    expect(stdout).toMatch(/^there is no Go to build etcd kubectl with/);
  });

  it('builds what is lacking, once', async () => {
    const { env, count } = await workshop();
    const { stdout, stderr } = await find(['etcd', 'kube-apiserver'], env);
    expect(stderr).toMatch(/building etcd v3.*\n.*building k8s.io\/kubernetes\/cmd\/kube-apiserver v1/);
    expect(await readFile(join(stdout.trim(), 'kube-apiserver'), 'utf8')).toBe('first half\nsecond half\n');
    expect(await find(['kube-apiserver', 'etcd'], env)).toMatchObject({ code: 0, stdout, stderr: '' });
    await find(['kube-apiserver', 'kubelet'], env);
    expect((await readFile(count, 'utf8')).trim().split('\n')).toEqual([
      'etcd',
      'k8s.io/kubernetes/cmd/kube-apiserver',
      'k8s.io/kubernetes/cmd/kubelet',
    ]);
    expect(await programsIn(stdout.trim())).toEqual(['etcd', 'kube-apiserver', 'kubelet']);
  });

  it.each(process.platform === 'linux' ? ['with flock', 'without'] : ['without'])(
    'shows nobody half a program, though two want it at once, %s',
    async (how) => {
      const { env, count, bin } = await workshop();
      // One that lets everybody in.
      if (how === 'without') await program(bin, 'flock', '#!/bin/sh\n');
      const found = await Promise.all([find(['etcd'], env), find(['etcd'], env)]);
      for (const { code, stdout } of found) {
        expect(code).toBe(0);
        expect(await readFile(join(stdout.trim(), 'etcd'), 'utf8')).toBe('first half\nsecond half\n');
        expect(await programsIn(stdout.trim())).toEqual(['etcd']);
      }
      expect(await readFile(count, 'utf8')).toBe(how === 'without' ? 'etcd\netcd\n' : 'etcd\n');
    },
  );

  it('fails with what the compiler says, and leaves nothing', async () => {
    const { env, cache } = await workshop();
    const { code, stderr } = await find(['kubectl'], { ...env, BROKEN: 'yes' });
    expect(code).toBe(1);
    expect(stderr).toContain('main.go:1: no such thing');
    const [version = ''] = await readdir(join(cache, 'plugset'));
    expect(await programsIn(join(cache, 'plugset', version))).toEqual([]);
  });
});

interface Found {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function find(names: readonly string[], env: Readonly<Record<string, string>>): Promise<Found> {
  return new Promise((resolve) => {
    execFile('/bin/sh', [SCRIPT, ...names], { env: { PATH: process.env['PATH'], ...env } }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}

async function programsIn(dir: string): Promise<readonly string[]> {
  return (await readdir(dir)).filter((name) => name !== '.lock').toSorted();
}

interface Workshop {
  readonly env: Readonly<Record<string, string>>;
  readonly bin: string;
  readonly cache: string;
  /** A file with a line for each program that was built. */
  readonly count: string;
}

/** An empty cache, and a compiler that takes no minutes. */
async function workshop(): Promise<Workshop> {
  const dir = await tempDir();
  const cache = join(dir, 'cache');
  const count = join(dir, 'count');
  await mkdir(join(dir, 'bin'));
  await program(join(dir, 'bin'), 'go', GO);
  const env = { PATH: `${join(dir, 'bin')}:/usr/bin:/bin`, HOME: dir, XDG_CACHE_HOME: cache, COUNT: count };
  return { env, cache, count, bin: join(dir, 'bin') };
}

async function which(tool: string): Promise<string> {
  return (await promisify(execFile)('/bin/sh', ['-c', 'command -v "$1"', 'sh', tool])).stdout.trim();
}

async function program(dir: string, name: string, text = ''): Promise<void> {
  await writeFile(join(dir, name), text);
  await chmod(join(dir, name), 0o755);
}
