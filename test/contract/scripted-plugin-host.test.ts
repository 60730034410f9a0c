import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, onTestFinished, test } from 'vitest';

import { BUSYBOX, busyboxTools, createDirectoryHost, IS_ROOT, type Programs } from '../support/directory-host.ts';
import { memoryArtifact } from '../support/memory-artifact.ts';
import { Bench, describePluginHost, samplePlugin, withOtherContent } from './plugin-host.ts';

/*
 * The two scripts on the shells and tools that images have. Directories of this machine stand in for targets; docker
 * binds the same suite in a file of its own.
 */

const NEEDS_ROOT = {
  'a full disk is named, and nothing is half done': 'mounting a small file system takes root',
  'a read-only directory is named, and can be looked at': 'mounting a file system takes root',
  'plugins or .plugset of another user are refused': 'giving files away takes root',
  'a tree of somebody else fails alone and stays as it is': 'giving files away takes root',
};

interface Flavour {
  readonly programs: Programs;
  readonly unsupported?: Readonly<Record<string, string>>;
}

const FLAVOURS: Readonly<Record<string, Flavour>> = {
  'dash, GNU tools, mawk': { programs: { sh: '/bin/dash', awk: '/usr/bin/mawk' } },
  'bash, GNU tools, gawk': { programs: { sh: '/bin/bash', awk: '/usr/bin/gawk' } },
  'busybox of Debian': {
    programs: { sh: BUSYBOX, flock: undefined },
    unsupported: {
      'a target without tar is named by apply, one without sha256sum by look too':
        'its shell runs its own applets, whatever the PATH says',
    },
  },
  'dash, busybox tools': { programs: { ...busyboxTools(), sh: '/bin/dash' } },
};

for (const [name, { programs, unsupported }] of Object.entries(FLAVOURS)) {
  const missing = Object.values(programs).find((program) => program !== undefined && !existsSync(program));
  if (missing === undefined) {
    describePluginHost(name, {
      create: (disk) => createDirectoryHost({ programs, disk }),
      unsupported: { ...unsupported, ...(!IS_ROOT && NEEDS_ROOT) },
    });
  } else {
    test.skipIf(process.env['CI'] !== 'true')(`PluginHost: ${name} needs ${missing}`, () =>
      expect.fail(`CI=true and ${missing} is missing`),
    );
  }
}

/** Two lists of sums: one behind `big`, while the rest arrives, and one at the end. */
const LARGE = memoryArtifact({ a: 'first', big: Buffer.alloc(2_000_000, 'x'), z: Buffer.alloc(1_000_000, 'y') });

async function expectChecked(bench: Bench): Promise<void> {
  for (const path of ['a', 'big', 'z']) {
    const bad = withOtherContent(LARGE, path);
    expect(await bench.refusal(bench.converge([bench.put('p', bad)], [bad])), path).toMatchObject({
      reason: 'VerifyFailed',
    });
    expect((await bench.look()).plugins).toEqual([]);
  }
  const { plugins } = await bench.install({ p: LARGE });
  expect(plugins).toMatchObject([{ listDigest: LARGE.digest, differing: [] }]);
}

for (const [name, { programs }] of Object.entries(FLAVOURS)) {
  const isMissing = Object.values(programs).some((program) => program !== undefined && !existsSync(program));
  test.skipIf(isMissing && process.env['CI'] !== 'true')(
    `PluginHost: what is checked while the rest arrives is checked like the rest: ${name}`,
    async () => {
      const backend = await createDirectoryHost({ programs, disk: 'shared' });
      onTestFinished(() => backend.dispose());
      await expectChecked(new Bench(backend));
    },
  );
}

// That of libarchive.
test('PluginHost: a tar that lists to stderr does no harm', async () => {
  const backend = await createDirectoryHost({ programs: {}, disk: 'shared' });
  onTestFinished(() => backend.dispose());
  await backend.hide('tar');
  await writeFile(join(backend.bin, 'tar'), '#!/bin/sh\nexec /usr/bin/tar "$@" >&2\n', { mode: 0o755 });
  await expectChecked(new Bench(backend));
});

// An agent brings it about with a list that takes more memory than there is.
test('PluginHost: a look whose comparison died at once is no look without differences', async () => {
  const backend = await createDirectoryHost({ programs: {}, disk: 'shared' });
  onTestFinished(() => backend.dispose());
  const bench = new Bench(backend);
  await bench.install({ p: samplePlugin('p') });
  await bench.shell('echo edited >>plugins/p/plugin.yaml');
  expect((await bench.lookAt('p'))?.differing).toEqual(['plugin.yaml']);
  await backend.hide('awk');
  const dying = '#!/bin/sh\ncase "$*" in *"function check("*) exit 2 ;; esac\nexec /usr/bin/awk "$@"\n';
  await writeFile(join(backend.bin, 'awk'), dying, { mode: 0o755 });
  expect(await bench.refusal(bench.look())).toMatchObject({ class: 'transient', reason: 'ObserveFailed' });
});

test.each(['plugins', '.plugset/receipts', '.plugset/files'])(
  'PluginHost: more than two thousand entries in %s are refused',
  async (place) => {
    const backend = await createDirectoryHost({ programs: {}, disk: 'shared' });
    onTestFinished(() => backend.dispose());
    const bench = new Bench(backend);
    await bench.shell(
      `mkdir -p ${place} && cd ${place} && i=0; while [ $i -le 2000 ]; do echo p$i; i=$((i + 1)); done | xargs mkdir`,
    );
    expect(await bench.refusal(bench.look())).toMatchObject({ class: 'transient', reason: 'ObserveFailed' });
  },
);

// A container can have volumes anywhere; a directory that is one cannot be renamed.
describe.skipIf(!IS_ROOT)('PluginHost: mounts inside the config directory', () => {
  test.each([
    ['plugins', 'UnsafePath'],
    ['.plugset', 'UnsafePath'],
  ])('%s as a mount of its own is refused', async (place, reason) => {
    const bench = await mountedBench(place);
    const artifact = samplePlugin('p');
    expect(await bench.refusal(bench.converge([bench.put('p', artifact)], [artifact]))).toMatchObject({ reason });
    expect((await bench.look()).plugins).toEqual([]);
  });

  test('a plugin that is a mount fails alone', async () => {
    const bench = await mountedBench('plugins/p');
    const artifact = samplePlugin('p');
    const unmanaged = { kind: 'unmanaged' } as const;
    const { failed, observation } = await bench.converge(
      [bench.put('p', artifact, unmanaged), bench.put('q', artifact)],
      [artifact],
    );
    expect([...failed].map(([name, error]) => [name, error.reason])).toEqual([['p', 'PermissionDenied']]);
    expect(observation.plugins).toMatchObject([{ name: 'p' }, { name: 'q', differing: [] }]);
  });
});

async function mountedBench(place: string): Promise<Bench> {
  const backend = await createDirectoryHost({ programs: {}, disk: 'shared' });
  onTestFinished(() => backend.dispose());
  const { uid, gid } = backend.owner;
  await backend.shell(`mkdir -p ${place}`);
  await backend.shell(`mount -t tmpfs -o size=1m,uid=${uid},gid=${gid} tmpfs ${place}`, 'root');
  onTestFinished(async () => void (await backend.shell(`umount ${place}`, 'root')));
  return new Bench(backend);
}
