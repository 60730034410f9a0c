import { expect } from 'vitest';

import { sha256, type Digest } from '../../src/domain/digest.ts';
import { ReconcileError } from '../../src/domain/errors.ts';
import type { Fence } from '../../src/domain/fence.ts';
import type { PluginName } from '../../src/domain/name.ts';
import type { Observation, ObservedPlugin, Receipt } from '../../src/domain/observation.ts';
import type { RuntimeProfile } from '../../src/domain/profile.ts';
import type { Expectation, Operation } from '../../src/domain/transaction.ts';
import type { TreeLists } from '../../src/domain/tree.ts';
import type { Artifact } from '../../src/ports/artifacts.ts';
import type { ConvergeRequest, ConvergeResult, HostPlace, PluginHost } from '../../src/ports/plugin-host.ts';
import type { WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import { eventually } from '../support/eventually.ts';
import { memoryArtifact } from '../support/memory-artifact.ts';
import { describeCases, type Cases, type Unsupported } from './cases.ts';

/** One running target with an empty config directory, and what people and agents do to it past the port. */
export interface PluginHostBackend {
  readonly host: PluginHost;
  readonly target: WorkspaceTarget;
  /** Exists, is empty and belongs to `owner`. */
  readonly configDir: string;
  readonly owner: { readonly uid: number; readonly gid: number };
  /** Runs a shell script in the config directory as `owner` (the agent) or as root; answers stdout, rejects on failure. */
  shell(script: string, as?: 'agent' | 'root'): Promise<string>;
  /** Takes a program off the PATH of everything that runs later. */
  hide(program: string): Promise<void>;
  /** Makes the file system of the config directory read-only. */
  seal(): Promise<void>;
  /** Removes everything. */
  dispose(): Promise<void>;
}

export interface PluginHostHarness {
  /** `disk`: the config directory is a file system of its own, of 1 MiB, that can be sealed. */
  create(disk: 'shared' | 'own'): Promise<PluginHostBackend>;
  /** Cases that cannot hold here, by name, each with the reason. A name that is no case fails the suite. */
  readonly unsupported?: Unsupported;
}

export function describePluginHost(name: string, harness: PluginHostHarness): void {
  describeCases(`PluginHost: ${name}`, CASES, harness.unsupported, async (later, title): Promise<Bench> => {
    const backend = await harness.create(OWN_DISK.has(title) ? 'own' : 'shared');
    later(() => backend.dispose());
    return new Bench(backend);
  });
}

const FENCE: Fence = { authority: 'store-1', epoch: 1000, n: 5 };
const OTHER_USER = 54_321;
const ABSENT: Expectation = { kind: 'absent' };
const UNMANAGED: Expectation = { kind: 'unmanaged' };
const PROFILE: RuntimeProfile = {
  runtime: 'test',
  configDir: {},
  owner: 'configDir',
  disposable: ['__pycache__', '*.pyc'],
  rereads: [],
  bootMs: 0,
};

/** Everything that the agent may find below its config directory: types, owners' bits, sizes, names. */
const SNAPSHOT = `find . ! -path './.plugset/lock*' ! -path ./.plugset/fence -exec ls -ldn --full-time {} + 2>/dev/null || find . -exec ls -ldn {} +`;

export function named(text: string): PluginName {
  return text as PluginName;
}

/** A manifest, a document, an executable, and a file in a directory. */
export function samplePlugin(name: string, version = '1.0.0'): Artifact {
  return memoryArtifact({
    'plugin.yaml': `name: ${name}\nversion: ${version}\nruntimes: [test]\n`,
    'README.md': `# ${name} ${version}\n`,
    'bin/run': { content: `#!/bin/sh\necho ${version}\n`, executable: true },
    'skills/deep/one.md': `${name}\n`,
  });
}

/** One file comes as something else of the same size. */
export function withOtherContent(good: Artifact, path: string): Artifact {
  return {
    ...good,
    async *open() {
      for await (const { file, content } of good.open())
        yield { file, content: file.path === path ? single(Buffer.alloc(file.size, '!')) : content };
    },
  };
}

/** The words of a case: short ways to look, to change, and to ask what is there. */
export class Bench {
  readonly backend: PluginHostBackend;
  readonly place: HostPlace;
  #transactions = 0;

  constructor(backend: PluginHostBackend) {
    this.backend = backend;
    this.place = { target: backend.target, configDir: backend.configDir, profile: PROFILE };
  }

  shell(script: string, as?: 'agent' | 'root'): Promise<string> {
    return this.backend.shell(script, as);
  }

  look(candidates: Readonly<Record<string, TreeLists>> = {}): Promise<Observation> {
    const wanted = new Map(Object.entries(candidates).map(([name, lists]) => [named(name), lists]));
    return this.backend.host.observe(this.place, wanted, new AbortController().signal);
  }

  lookAtLoader(): Promise<Observation> {
    const place = { ...this.place, profile: { ...PROFILE, memoryFile: 'MEMORY.md' } };
    return this.backend.host.observe(place, new Map(), new AbortController().signal, 'loader');
  }

  lookAtSettings(): Promise<Observation> {
    return this.backend.host.observe(this.place, new Map(), new AbortController().signal, 'settings');
  }

  async lookAt(name: string, candidate?: TreeLists): Promise<ObservedPlugin | undefined> {
    const observation = await this.look(candidate && { [name]: candidate });
    return observation.plugins.find((plugin) => plugin.name === name);
  }

  receipt(name: string, digest: Digest): Receipt {
    return {
      format: 1,
      plugin: named(name),
      workspace: 'default/alice',
      authority: FENCE.authority,
      source: `local://${name}`,
      revision: 'r1',
      digest,
    };
  }

  put(name: string, artifact: Artifact, expected: Expectation = ABSENT): Operation {
    return {
      kind: 'put-tree',
      plugin: named(name),
      expect: expected,
      digest: artifact.digest,
      receipt: this.receipt(name, artifact.digest),
    };
  }

  adopt(name: string, artifact: Artifact, expected: Expectation = { kind: 'unmanaged' }): Operation {
    const { digest, lists } = artifact;
    return {
      kind: 'adopt-tree',
      plugin: named(name),
      expect: expected,
      digest,
      lists,
      receipt: this.receipt(name, digest),
    };
  }

  remove(name: string, expected: Expectation): Operation {
    return { kind: 'remove-tree', plugin: named(name), expect: expected };
  }

  request(operations: readonly Operation[], artifacts: readonly Artifact[], fence: Fence = FENCE): ConvergeRequest {
    this.#transactions += 1;
    return {
      transaction: { id: `tx${this.#transactions}`, operations },
      fence,
      owner: this.backend.owner,
      artifacts: new Map(artifacts.map((artifact) => [artifact.digest, artifact])),
    };
  }

  converge(
    operations: readonly Operation[],
    artifacts: readonly Artifact[] = [],
    fence?: Fence,
    signal: AbortSignal = new AbortController().signal,
  ): Promise<ConvergeResult> {
    return this.backend.host.converge(this.place, this.request(operations, artifacts, fence), signal);
  }

  /** Installs and insists that all went well. */
  async install(artifacts: Readonly<Record<string, Artifact>>): Promise<Observation> {
    const operations = Object.entries(artifacts).map(([name, artifact]) => this.put(name, artifact));
    const result = await this.converge(operations, Object.values(artifacts));
    expect(result.failed).toEqual(new Map());
    return result.observation;
  }

  /** What must be found to replace or remove what is there now. */
  async expectation(name: string): Promise<Expectation> {
    const found = await this.lookAt(name);
    if (found?.present !== true) return ABSENT;
    return found.filesSha256 === undefined ? UNMANAGED : { kind: 'sha256', sha256: found.filesSha256 };
  }

  /** Rejects as it should: answers the error. */
  async refusal(work: Promise<unknown>): Promise<ReconcileError> {
    const error = await work.then(
      () => new Error('it was not refused'),
      (thrown: unknown) => thrown,
    );
    if (!(error instanceof ReconcileError)) throw error;
    return error;
  }

  /** Does it, expects this refusal, and that nothing under the config directory has changed, the lock and fence apart. */
  async refusedUntouched(reason: string, work: () => Promise<unknown>): Promise<ReconcileError> {
    const before = await this.shell(SNAPSHOT, 'root');
    const error = await this.refusal(work());
    expect(error).toMatchObject({ reason });
    expect(withoutTimesOfRooms(await this.shell(SNAPSHOT, 'root'))).toBe(withoutTimesOfRooms(before));
    return error;
  }

  /** Paths of everything but directories below a place, sorted. */
  async files(place: string): Promise<readonly string[]> {
    const found = await this.shell(`find ${place} ! -type d 2>/dev/null | sort`);
    return found.split('\n').filter((line) => line !== '');
  }
}

/** Going through staging leaves a newer time on .plugset's own directories, and nothing else. */
function withoutTimesOfRooms(snapshot: string): string {
  return snapshot
    .split('\n')
    .filter((line) => !/ \.\/\.plugset(\/(staging|trash|journal\.d))?$/.test(line))
    .join('\n');
}

const OWN_DISK = new Set([
  'a full disk is named, and nothing is half done',
  'a read-only directory is named, and can be looked at',
]);

const CASES: Cases<Bench> = {
  // ---- looking

  async 'an empty config directory is an answer, and looking leaves nothing behind'(bench) {
    expect(await bench.look()).toEqual({ owner: bench.backend.owner, plugins: [], odd: [], journalPending: false });
    expect(await bench.shell('ls -A')).toBe('');
  },

  async 'a config directory that does not exist is named'(bench) {
    const place = { ...bench.place, configDir: `${bench.backend.configDir}/nowhere` };
    const error = await bench.refusal(bench.backend.host.observe(place, new Map(), new AbortController().signal));
    expect(error).toMatchObject({ reason: 'ConfigDirMissing', class: 'transient' });
    expect(error.message).toContain('nowhere');
  },

  async 'a directory that plugset did not install is shown with what its manifest says'(bench) {
    await bench.shell(`mkdir -p plugins/mine && printf 'name: other\\nversion: 1.10\\n' >plugins/mine/plugin.yaml`);
    expect((await bench.look()).plugins).toEqual([
      { name: 'mine', manifest: { name: 'other', version: '1.10' }, present: true, differing: [] },
    ]);
  },

  async 'an unmanaged directory is compared with the declared tree, every file and bit of it'(bench) {
    const wanted = memoryArtifact({ 'a b.md': 'text', 'bin/é': { content: 'x', executable: true } });
    const equal = async (): Promise<boolean | undefined> => (await bench.lookAt('mine', wanted.lists))?.equalToDesired;
    await bench.shell(
      `mkdir -p plugins/mine/bin && printf text >'plugins/mine/a b.md' && printf x >plugins/mine/bin/é`,
    );
    expect(await equal()).toBe(false);
    await bench.shell(`chmod 755 plugins/mine/bin/é && touch plugins/mine/extra`);
    expect(await equal()).toBe(true);
    await bench.shell(`printf Text >'plugins/mine/a b.md'`);
    expect(await equal()).toBe(false);
    expect((await bench.lookAt('mine'))?.equalToDesired).toBeUndefined();
    expect(await bench.lookAt('absent', wanted.lists)).toBeUndefined();
  },

  async 'what is no directory of its own, or has a name outside the grammar, is odd and cannot forge a line'(bench) {
    await bench.shell(`
      mkdir -p plugins/.hidden plugins/Upper plugins/good "plugins/new
checked
end" && touch plugins/file && ln -s good plugins/link && mkfifo plugins/pipe && mkdir "plugins/$(printf 'esc\\033[31m')"`);
    const observation = await bench.look();
    expect(observation.plugins.map((plugin) => plugin.name)).toEqual(['good']);
    expect(observation.odd.toSorted()).toEqual([
      '.hidden',
      'Upper',
      'esc?[31m',
      'file',
      'link',
      'new?checked?end',
      'pipe',
    ]);
  },

  async 'no content of a manifest or receipt can pass for a line of the report'(bench) {
    await bench.install({ sound: samplePlugin('sound') });
    const lines =
      'end 0 0 Succeeded\\nmanaged forged present\\n| odd x\\nowner 1 1\\ndiffers sound/README.md\\nversion: 7\\n';
    await bench.shell(`
      mkdir -p plugins/a plugins/b plugins/c plugins/d
      printf '${lines}' >plugins/a/plugin.yaml; printf 'version: 8' >plugins/b/plugin.yaml
      ln -s /etc/passwd plugins/c/plugin.yaml; mkfifo plugins/d/plugin.yaml
      printf '${lines}' >.plugset/receipts/sound`);
    const observation = await bench.look();
    expect(observation.owner).toEqual(bench.backend.owner);
    expect(observation.plugins.map(({ name, manifest }) => [name, manifest.version])).toEqual([
      ['a', undefined],
      ['b', '8'],
      ['c', undefined],
      ['d', undefined],
      ['sound', '1.0.0'],
    ]);
    const sound = observation.plugins.find((plugin) => plugin.name === 'sound');
    expect(sound).toMatchObject({ differing: [], filesSha256: expect.any(String) });
    expect(sound?.receipt).toBeUndefined();
  },

  async 'the lists of managed plugins are told when they are asked for, and nothing else in their place'(bench) {
    const p = memoryArtifact({ 'SKILL.md': 'text', 'bin/é': { content: 'x', executable: true } });
    await bench.install({ p, linked: samplePlugin('linked'), other: samplePlugin('other') });
    await bench.shell(`
      mkdir -p plugins/mine && ln -sf /etc/passwd .plugset/files/linked
      printf 'root:x:0:0\\n' >.plugset/files/other; : >.plugset/executables/other`);
    const { host } = bench.backend;
    const { plugins } = await host.observe(bench.place, new Map(), new AbortController().signal, 'lists');
    const listed = plugins.map(({ name, lists }) => [name, lists]);
    expect(listed).toEqual([
      ['linked', undefined],
      ['mine', undefined],
      ['other', undefined],
      ['p', p.lists],
    ]);
    expect((await bench.lookAt('p'))?.lists, 'a look of every day spares the bytes').toBeUndefined();
  },

  async 'a manifest over 64 KiB says nothing'(bench) {
    await bench.shell(
      `mkdir -p plugins/big && { echo 'version: 1'; dd if=/dev/zero bs=1024 count=65 2>/dev/null | tr '\\0' '#'; } >plugins/big/plugin.yaml`,
    );
    expect((await bench.lookAt('big'))?.manifest).toEqual({});
  },

  async 'a state directory of a newer format is refused by look and apply'(bench) {
    await bench.shell('mkdir .plugset && echo 2 >.plugset/format');
    expect(await bench.refusedUntouched('UnknownFormat', () => bench.look())).toMatchObject({ class: 'terminal' });
    await bench.refusedUntouched('UnknownFormat', () => bench.converge([]));
  },

  // ---- drift

  async 'every way to change a listed file is seen, and nothing else is'(bench) {
    const artifact = memoryArtifact({
      edited: 'a',
      gone: 'b',
      'made-executable': 'c',
      'made-plain': { content: 'd', executable: true },
      linked: 'e',
      fifo: 'f',
      directory: 'g',
      'through/link': 'h',
      'kept/as it is': 'i',
      '-n': 'j',
      'x: OK': 'k',
      'y: FAILED': 'l',
    });
    await bench.install({ p: artifact });
    expect((await bench.lookAt('p'))?.differing).toEqual([]);
    await bench.shell(
      `mkdir plugins/p/__pycache__ && touch plugins/p/__pycache__/x.pyc plugins/p/unlisted && ln -s / plugins/p/unlisted-link`,
    );
    expect((await bench.lookAt('p'))?.differing).toEqual([]);
    await bench.shell(`cd plugins/p
      echo more >>edited; rm gone fifo directory; chmod 755 made-executable; chmod 644 made-plain
      mv linked through/copy && ln -s through/copy linked; mkfifo fifo; mkdir directory
      mv through elsewhere && ln -s elsewhere through; echo more >>'x: OK'; echo more >>'y: FAILED'; echo more >>-n`);
    const seen = await bench.lookAt('p');
    expect(seen?.differing.toSorted()).toEqual([
      '-n',
      'directory',
      'edited',
      'fifo',
      'gone',
      'linked',
      'made-executable',
      'made-plain',
      'through/link',
      'x: OK',
      'y: FAILED',
    ]);
    expect(seen?.listDigest).toBe(artifact.digest);
  },

  async 'at most 20 differing paths are named'(bench) {
    await bench.install({
      p: memoryArtifact(Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`f${i}`, 'x']))),
    });
    await bench.shell('rm plugins/p/*');
    expect((await bench.lookAt('p'))?.differing).toHaveLength(20);
  },

  async 'a tree that was deleted leaves its receipt, and the plugin is shown as not present'(bench) {
    const artifact = samplePlugin('p');
    await bench.install({ p: artifact });
    await bench.shell('rm -r plugins/p');
    expect(await bench.lookAt('p')).toMatchObject({ present: false, receipt: { digest: artifact.digest } });
  },

  async 'a file, its line in the list and the receipt edited together: the digest of the list gives it away'(bench) {
    const artifact = samplePlugin('p');
    await bench.install({ p: artifact });
    await bench.shell(`
      echo evil >plugins/p/README.md
      sum=$(cd plugins/p && sha256sum README.md | cut -d' ' -f1)
      sed -i "s/^.*  README.md\\$/$sum  README.md/" .plugset/files/p
      list=$(cat .plugset/files/p .plugset/executables/p | sha256sum | cut -d' ' -f1)
      sed -i "s/sha256:[0-9a-f]*/sha256:$list/" .plugset/receipts/p`);
    const seen = await bench.lookAt('p');
    expect(seen?.differing).toEqual([]);
    expect(seen?.listDigest).not.toBe(artifact.digest);
    expect(seen?.receipt?.digest).not.toBe(artifact.digest);
    await bench.converge([bench.put('p', artifact, await bench.expectation('p'))], [artifact]);
    expect(await bench.lookAt('p')).toMatchObject({ listDigest: artifact.digest, differing: [] });
  },

  async 'a list that leads out of its tree is not followed'(bench) {
    await bench.install({ p: samplePlugin('p') });
    const passwd = (await bench.shell(`sha256sum /etc/passwd | cut -d' ' -f1`)).trim();
    await bench.shell(`
      for path in ../../../../../../../../etc/passwd /etc/passwd ./README.md README.md/ a//b 'back\\slash' ''; do
        printf '%s  %s\\n' ${passwd} "$path"
      done >.plugset/files/p; printf 'no hash at all\\n' >>.plugset/files/p`);
    const seen = await bench.lookAt('p');
    expect(seen?.differing).toHaveLength(8);
    expect(new Set(seen?.differing)).toEqual(new Set(['(a broken line of its list)']));
  },

  async 'what is left of our own files keeps a plugin managed, and it can be restored'(bench) {
    const artifact = samplePlugin('p');
    await bench.install({ p: artifact });
    for (const damage of [
      'rm .plugset/receipts/p',
      'rm .plugset/files/p',
      'rm .plugset/executables/p',
      'echo junk >.plugset/receipts/p',
      'chmod 0 .plugset/files/p',
      'rm .plugset/files/p && ln -s /etc/passwd .plugset/files/p',
      'rm .plugset/files/p && mkfifo .plugset/files/p',
      'chmod 0 plugins/p',
    ]) {
      await bench.shell(damage);
      // Whatever the look makes of it, it must not call the plugin foreign.
      expect((await bench.lookAt('p'))?.filesSha256, damage).toBeDefined();
      await bench.converge([bench.put('p', artifact, await bench.expectation('p'))], [artifact]);
      const restored = await bench.lookAt('p');
      expect(restored, damage).toMatchObject({
        listDigest: artifact.digest,
        differing: [],
        receipt: { digest: artifact.digest },
      });
    }
  },

  // ---- changing

  async 'a plugin is installed as it was packed, and anyone can check it by hand'(bench) {
    const artifact = memoryArtifact({
      'plugin.yaml': 'version: 3',
      'bin/tool': { content: '#!/bin/sh\n', executable: true },
      empty: '',
      'with space/ü/*.md': 'text',
      '-rf': 'dash',
      [`${'long/'.repeat(30)}${'n'.repeat(200)}`]: 'deep',
      ['b'.repeat(100)]: 'exactly 100',
      binary: Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7) % 256),
    });
    const observation = await bench.install({ p: artifact });
    expect(observation).toEqual({
      owner: bench.backend.owner,
      odd: [],
      journalPending: false,
      fence: FENCE,
      plugins: [
        {
          name: 'p',
          manifest: { version: '3' },
          present: true,
          differing: [],
          listDigest: artifact.digest,
          filesSha256: sha256(artifact.lists.files).slice(7),
          receipt: bench.receipt('p', artifact.digest),
        },
      ],
    });
    expect(await bench.look()).toEqual(observation);
    await bench.shell('cd plugins/p && sha256sum -c ../../.plugset/files/p');
    expect(await bench.shell('cd plugins/p && find . -type f | wc -l')).toMatch(/^\s*8\s*$/);
    expect(await bench.shell('cd plugins/p && stat -c %a . bin bin/tool empty')).toBe('755\n755\n755\n644\n');
    expect(await bench.shell('cat .plugset/format')).toBe('1\n');
    expect(await bench.shell('find .plugset/staging .plugset/trash .plugset/journal.d .plugset/kept -mindepth 1')).toBe(
      '',
    );
  },

  async 'ten plugins go in one transaction, a tree without files among them'(bench) {
    const artifacts = Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`p${i}`, samplePlugin(`p${i}`)]));
    const observation = await bench.install({ ...artifacts, empty: memoryArtifact({}) });
    expect(observation.plugins).toHaveLength(10);
    for (const plugin of observation.plugins) {
      expect(plugin).toMatchObject({ present: true, differing: [] });
      expect(plugin.listDigest).toBe(plugin.receipt?.digest);
    }
  },

  async 'a plugin is replaced whole: nothing of the old version stays'(bench) {
    const [old, next] = [
      samplePlugin('p', '1.0.0'),
      memoryArtifact({ 'plugin.yaml': 'version: 2.0.0', 'new/file': 'x' }),
    ];
    await bench.install({ p: old });
    const { observation } = await bench.converge([bench.put('p', next, await bench.expectation('p'))], [next]);
    expect(observation.plugins).toMatchObject([
      { manifest: { version: '2.0.0' }, listDigest: next.digest, differing: [] },
    ]);
    expect(await bench.files('plugins')).toEqual(['plugins/p/new/file', 'plugins/p/plugin.yaml']);
  },

  async 'a plugin is removed with its lists and receipt'(bench) {
    await bench.install({ p: samplePlugin('p'), q: samplePlugin('q') });
    const { observation, kept } = await bench.converge([bench.remove('p', await bench.expectation('p'))]);
    expect(observation.plugins.map((plugin) => plugin.name)).toEqual(['q']);
    expect(kept).toEqual([]);
    expect(await bench.shell(`find . -name p`)).toBe('');
  },

  async 'a receipt whose tree is gone can be removed, and the tree put back'(bench) {
    const artifact = samplePlugin('p');
    await bench.install({ p: artifact, q: artifact });
    await bench.shell('rm -r plugins/*');
    await bench.converge([bench.remove('p', ABSENT), bench.put('q', artifact, ABSENT)], [artifact]);
    expect((await bench.look()).plugins).toMatchObject([{ name: 'q', present: true, differing: [] }]);
  },

  async 'unlisted files of an old tree are kept, what the runtime made by itself goes'(bench) {
    await bench.install({ p: samplePlugin('p'), q: samplePlugin('q') });
    await bench.shell(`
      cd plugins/p && mkdir -p data/deep __pycache__ skills/notes skills/deep/__pycache__ build
      echo 1 >data/deep/one; echo 2 >data/two; echo 3 >"skills/deep/my own.md"; ln -s /etc/passwd skills/notes/link
      touch x.pyc __pycache__/y skills/deep/__pycache__/z build/only.pyc; echo 4 >../q/four`);
    const next = samplePlugin('p', '2.0.0');
    const { kept } = await bench.converge(
      [bench.put('p', next, await bench.expectation('p')), bench.remove('q', await bench.expectation('q'))],
      [next],
    );
    expect(kept.toSorted()).toEqual([
      '.plugset/kept/p-tx2/data',
      '.plugset/kept/p-tx2/skills/deep/my own.md',
      '.plugset/kept/p-tx2/skills/notes',
      '.plugset/kept/q-tx2/four',
    ]);
    expect(await bench.files('.plugset/kept')).toEqual([
      '.plugset/kept/p-tx2/data/deep/one',
      '.plugset/kept/p-tx2/data/two',
      '.plugset/kept/p-tx2/skills/deep/my own.md',
      '.plugset/kept/p-tx2/skills/notes/link',
      '.plugset/kept/q-tx2/four',
    ]);
    expect((await bench.lookAt('p'))?.differing).toEqual([]);
    expect(await bench.files('plugins')).toHaveLength(next.files.length);
  },

  async 'a name with a line end keeps the whole old tree rather than losing a file'(bench) {
    await bench.install({ p: samplePlugin('p') });
    await bench.shell(`echo mine >"plugins/p/line\nend"`);
    const { kept } = await bench.converge([bench.remove('p', await bench.expectation('p'))]);
    expect(kept).toEqual(['.plugset/kept/p-tx2']);
    expect(await bench.shell(`cat ".plugset/kept/p-tx2/line\nend"`)).toBe('mine\n');
  },

  async 'an unmanaged directory that is removed or replaced is kept whole'(bench) {
    const artifact = samplePlugin('p');
    await bench.shell('mkdir -p plugins/p/x plugins/q && echo 1 >plugins/p/x/one && echo 2 >plugins/q/two');
    const { kept } = await bench.converge(
      [bench.put('p', artifact, UNMANAGED), bench.remove('q', UNMANAGED)],
      [artifact],
    );
    expect(kept.toSorted()).toEqual(['.plugset/kept/p-tx1/x', '.plugset/kept/q-tx1/two']);
    expect(await bench.shell('cat .plugset/kept/p-tx1/x/one .plugset/kept/q-tx1/two')).toBe('1\n2\n');
  },

  async 'an equal tree is adopted without moving a byte'(bench) {
    const artifact = samplePlugin('p');
    await bench.install({ p: artifact });
    await bench.shell('rm -r .plugset');
    expect(await bench.lookAt('p', artifact.lists)).toMatchObject({ equalToDesired: true });
    const inodes = await bench.shell('find plugins -type f -exec stat -c "%i %Y %n" {} + | sort');
    const { observation } = await bench.converge([bench.adopt('p', artifact)]);
    expect(observation.plugins).toMatchObject([
      { name: 'p', listDigest: artifact.digest, differing: [], receipt: { digest: artifact.digest } },
    ]);
    expect(await bench.shell('find plugins -type f -exec stat -c "%i %Y %n" {} + | sort')).toBe(inodes);
  },

  async 'a whole tree gets the receipt of another workspace without moving a byte'(bench) {
    const artifact = samplePlugin('p');
    await bench.install({ p: artifact });
    const inodes = await bench.shell('find plugins -type f -exec stat -c "%i %Y %n" {} + | sort');
    const adopt = bench.adopt('p', artifact, await bench.expectation('p'));
    if (adopt.kind !== 'adopt-tree') throw new Error('no adoption');
    const receipt = { ...adopt.receipt, workspace: 'default/alice2' };
    const { observation } = await bench.converge([{ ...adopt, receipt }]);
    expect(observation.plugins).toMatchObject([
      { name: 'p', listDigest: artifact.digest, differing: [], receipt: { workspace: 'default/alice2' } },
    ]);
    expect(await bench.shell('find plugins -type f -exec stat -c "%i %Y %n" {} + | sort')).toBe(inodes);
    await bench.shell('echo edited >plugins/p/README.md');
    await bench.refusedUntouched('TargetMoved', () => bench.converge([adopt]));
  },

  async 'a tree that is no longer equal is not adopted'(bench) {
    const artifact = samplePlugin('p');
    await bench.install({ p: artifact, q: artifact });
    await bench.shell('rm .plugset/*/p');
    await bench.shell('echo edited >plugins/p/README.md');
    await bench.refusedUntouched('TargetMoved', () => bench.converge([bench.adopt('p', artifact)]));
  },

  async 'what is not as expected stops the whole transaction'(bench) {
    const artifact = samplePlugin('p');
    await bench.install({ p: artifact });
    await bench.shell('mkdir plugins/foreign');
    const wrong: Expectation = { kind: 'sha256', sha256: 'a'.repeat(64) };
    for (const moved of [
      bench.put('p', artifact, ABSENT),
      bench.put('p', artifact, UNMANAGED),
      bench.put('p', artifact, wrong),
      bench.remove('p', wrong),
      bench.put('foreign', artifact, ABSENT),
      bench.put('foreign', artifact, wrong),
      bench.put('new', artifact, UNMANAGED),
      bench.put('new', artifact, wrong),
      bench.adopt('new', artifact),
      bench.adopt('p', artifact),
      bench.adopt('p', artifact, wrong),
    ]) {
      const error = await bench.refusedUntouched('TargetMoved', () =>
        bench.converge([bench.put('other', artifact), moved], [artifact]),
      );
      expect(error.class).toBe('transient');
    }
  },

  async 'a transaction without operations only looks'(bench) {
    const { observation, failed, kept } = await bench.converge([]);
    expect({ observation, failed, kept }).toEqual({
      observation: { owner: bench.backend.owner, plugins: [], odd: [], journalPending: false, fence: FENCE },
      failed: new Map(),
      kept: [],
    });
  },

  async 'what nobody looked at is taken for blank while it is, and otherwise left without a trace'(bench) {
    const artifact = samplePlugin('p');
    const { host, owner } = bench.backend;
    const presume = (as = owner, place = bench.place): Promise<ConvergeResult> => {
      const request = bench.request([bench.put('p', artifact)], [artifact]);
      return host.converge(place, { ...request, owner: as, expectsBlank: true }, new AbortController().signal);
    };
    const all = (): Promise<string> => bench.shell('find . -exec ls -ldn --full-time {} + 2>/dev/null | sort', 'root');
    const refused = async (reasons: readonly string[], work: () => Promise<unknown>): Promise<void> => {
      const before = await all();
      expect(reasons).toContain((await bench.refusal(work())).reason);
      expect(await all()).toBe(before);
    };
    for (const there of ['plugins', '.plugset', 'plugins/p', '.plugset/receipts']) {
      await bench.shell(`mkdir -p ${there}`);
      await refused(['TargetMoved'], () => presume());
      await bench.shell('rm -r plugins .plugset 2>/dev/null || :');
    }
    await bench.shell('mkdir .plugset && echo somebody 1 1 >.plugset/fence');
    await refused(['TargetMoved'], () => presume());
    await bench.shell('rm -r .plugset');
    await bench.shell('mkdir -p real/inner && ln -s real link');
    const configDir = `${bench.place.configDir}/link/inner`;
    await refused(['TargetMoved'], () => presume(owner, { ...bench.place, configDir }));
    await bench.shell('rm -r real link');
    // Where this test is not root, nobody can run as somebody else.
    await refused(['UnsafePath', 'PermissionDenied'], () =>
      presume({ ...owner, uid: owner.uid === 0 ? OTHER_USER : 0 }),
    );
    await refused(['TargetMoved', 'PermissionDenied'], () => presume({ ...owner, gid: OTHER_USER }));
    const { failed, observation } = await presume();
    expect(failed).toEqual(new Map());
    expect(observation).toEqual(await bench.look());
    expect(observation.plugins).toMatchObject([{ name: 'p', listDigest: artifact.digest, differing: [] }]);
  },

  async 'a plugin that cannot be put fails alone'(bench) {
    const artifact = samplePlugin('p');
    await bench.shell('mkdir -p plugins && ln -s /tmp plugins/p && touch plugins/q');
    const { failed, observation } = await bench.converge(
      [bench.put('p', artifact), bench.put('q', artifact), bench.put('r', artifact)],
      [artifact],
    );
    expect([...failed].map(([name, error]) => [name, error.reason])).toEqual([
      ['p', 'UnsafePath'],
      ['q', 'UnsafePath'],
    ]);
    expect(observation.plugins).toMatchObject([{ name: 'r', differing: [] }]);
    expect(observation.odd).toEqual(['p', 'q']);
    expect(await bench.files('.plugset/receipts')).toEqual(['.plugset/receipts/r']);
  },

  async 'a tree of somebody else fails alone and stays as it is'(bench) {
    const [old, next] = [samplePlugin('p', '1'), samplePlugin('p', '2')];
    await bench.install({ p: old, q: old });
    await bench.shell(`chown -R ${OTHER_USER}:${OTHER_USER} plugins/p`, 'root');
    const expected = await bench.expectation('p');
    const { failed, observation } = await bench.converge(
      [bench.put('p', next, expected), bench.put('q', next, expected)],
      [next],
    );
    expect([...failed].map(([name, error]) => [name, error.reason, error.class])).toEqual([
      ['p', 'PermissionDenied', 'terminal'],
    ]);
    expect(
      observation.plugins.map(({ manifest, differing, listDigest }) => ({
        version: manifest.version,
        differing,
        listDigest,
      })),
    ).toEqual([
      { version: '1', differing: [], listDigest: old.digest },
      { version: '2', differing: [], listDigest: next.digest },
    ]);
  },

  // ---- files

  async 'files are written with their mode, beside and by rename, and removed'(bench) {
    const write = (path: string, text: string, expected: Expectation, mode = 0o644): Operation => ({
      kind: 'put-file',
      path,
      expect: expected,
      content: Buffer.from(text),
      mode,
    });
    const now = (text: string): Expectation => ({ kind: 'sha256', sha256: sha256(text).slice(7) });
    await bench.converge([write('settings/a b/p.json', '{}', ABSENT, 0o600), write('MEMORY.md', 'one', ABSENT)]);
    expect(await bench.shell(`cat MEMORY.md 'settings/a b/p.json'; stat -c %a MEMORY.md 'settings/a b/p.json'`)).toBe(
      'one{}644\n600\n',
    );
    await bench.converge([
      write('MEMORY.md', 'two', now('one')),
      { kind: 'remove-file', path: 'settings/a b/p.json', expect: now('{}') },
    ]);
    expect(await bench.files('.')).not.toContain('./settings/a b/p.json');
    expect(await bench.shell('cat MEMORY.md; ls -A')).toBe('two.plugset\nMEMORY.md\nplugins\nsettings\n');
    for (const moved of [
      write('MEMORY.md', 'three', now('one')),
      write('MEMORY.md', 'three', ABSENT),
      write('new', 'x', now('x')),
      { kind: 'remove-file', path: 'MEMORY.md', expect: now('one') } as const,
    ]) {
      await bench.refusedUntouched('TargetMoved', () => bench.converge([write('other', 'x', ABSENT), moved]));
    }
  },

  async 'files are copied from a tree as it comes, saved where they stand, and put back'(bench) {
    const one = samplePlugin('p');
    const hexOf = (text: string): string => sha256(text).slice(7);
    await bench.shell(
      `printf old >COPY.md; chmod 640 COPY.md; mkdir -p skills/deep 'own dir'; printf mine >'own dir/a b'`,
    );
    const copy = (path: string, from: string, hex: string, expected: Expectation): Operation => ({
      kind: 'copy-file',
      path,
      from,
      sha256: hex,
      expect: expected,
    });
    const run = one.files.find(({ path }) => path === 'bin/run')?.sha256 ?? '';
    await bench.converge(
      [
        bench.put('p', one),
        { kind: 'save-file', path: 'own dir/a b' },
        { kind: 'save-file', path: 'skills/deep' },
        { kind: 'save-file', path: 'absent' },
        copy('.plugset/backup/COPY.md', 'COPY.md', hexOf('old'), ABSENT),
        copy('COPY.md', 'plugins/p/bin/run', run, { kind: 'sha256', sha256: hexOf('old') }),
      ],
      [one],
    );
    expect(
      await bench.shell(`cat COPY.md; stat -c %a COPY.md .plugset/backup/COPY.md; cat .plugset/backup/COPY.md`),
    ).toBe('#!/bin/sh\necho 1.0.0\n755\n640\nold');
    expect(await bench.shell(`cd .plugset/base; find . -type f | sort; cat 'own dir/a b'`)).toBe(
      './own dir/a b\n./skills/deep\nmine',
    );
    await bench.shell(`rm 'own dir/a b'; touch skills/deep/x`);
    await bench.converge([
      copy('own dir/a b', '.plugset/base/own dir/a b', hexOf('mine'), ABSENT),
      { kind: 'remove-file', path: '.plugset/base/own dir/a b', expect: { kind: 'sha256', sha256: hexOf('mine') } },
      { kind: 'save-file', path: 'own dir/none' },
      { kind: 'remove-directory', path: 'skills/deep' },
      { kind: 'remove-directory', path: 'never/was' },
    ]);
    expect(await bench.shell(`cat 'own dir/a b'; ls skills; find .plugset/base -type f`)).toBe(
      'minedeep\n.plugset/base/skills/deep\n',
    );
    await bench.shell('rm skills/deep/x');
    await bench.converge([{ kind: 'remove-directory', path: 'skills/deep' }]);
    expect(await bench.shell('ls skills')).toBe('');
    for (const wrong of [
      copy('x', 'plugins/p/bin/run', hexOf('other'), ABSENT),
      copy('x', 'plugins/p/absent', run, ABSENT),
      copy('COPY.md', 'plugins/p/bin/run', run, ABSENT),
    ])
      await bench.refusedUntouched('TargetMoved', () => bench.converge([wrong]));
    await bench.shell('ln -s /etc/passwd link');
    await bench.refusedUntouched('TargetMoved', () => bench.converge([copy('x', 'link', run, ABSENT)]));
    for (const path of ['.plugset/base', '.plugset/files/p', 'plugins/p/x', '../x'])
      await bench.refusedUntouched('Internal', () => bench.converge([copy(path, 'COPY.md', run, ABSENT)]));
  },

  async 'a look tells what a loader reads of plugins and made of them, and nothing else'(bench) {
    const one = memoryArtifact({
      'rules/a b.md': 'rule, no end',
      'README.md': 'readme\n',
      'src/x.md': 'not read\n',
      'skills/s/deep/one.md': 'skill\n',
      'hooks/h.sh': { content: 'hook\n', executable: true },
      'settings-fragment.json': '{}\n',
    });
    await bench.install({ p: one });
    await bench.shell(`printf 'end\\377\\n' >MEMORY.md; chmod 4640 MEMORY.md
      mkdir -p plugins/foreign/rules skills/s/deep skills/own .claude/hooks .claude/projects .plugset/base/.claude
      echo foreign >plugins/foreign/rules/r.md; echo other >skills/s/deep/one.md; echo beside >skills/s/beside
      echo secret >skills/own/x; echo secret >.claude/projects/x; echo hook >.claude/hooks/h.sh
      printf '{}' >.plugset/base/.claude/settings.json; ln -s /etc/passwd .claude/settings.json
      ln -s /etc/passwd skills/link; ln -s /etc .claude/commands`);
    const { loader } = await bench.lookAtLoader();
    const hexOf = (content: string | Uint8Array): string => sha256(content).slice(7);
    const found = Object.fromEntries(
      [...(loader?.files ?? [])].map(([path, { mode, sha256: hex, text }]) => [path, [mode.toString(8), hex, text]]),
    );
    const read = (text: string, mode = '644'): unknown => [mode, hexOf(text), text];
    const hashed = (text: string, mode = '644'): unknown => [mode, hexOf(text), undefined];
    expect(found).toEqual({
      'plugins/p/rules/a b.md': read('rule, no end'),
      'plugins/p/README.md': read('readme\n'),
      'plugins/p/skills/s/deep/one.md': hashed('skill\n'),
      'plugins/p/hooks/h.sh': hashed('hook\n', '755'),
      'plugins/p/settings-fragment.json': read('{}\n'),
      'plugins/foreign/rules/r.md': read('foreign\n'),
      // No UTF-8.
      'MEMORY.md': ['4640', hexOf(Buffer.from('end\xff\n', 'latin1')), undefined],
      'skills/s/deep/one.md': hashed('other\n'),
      'skills/s/beside': ['644', undefined, undefined],
      '.claude/hooks/h.sh': hashed('hook\n'),
      '.plugset/base/.claude/settings.json': read('{}'),
    });
    expect([...(loader?.others ?? [])].toSorted()).toEqual(
      ['.claude/settings.json', 'skills/link', 'skills/own', 'skills/s'].toSorted(),
    );
    expect(await bench.look()).not.toHaveProperty('loader');
  },

  async 'of a config directory that is one link after another a look follows none for a loader'(bench) {
    await bench.shell('mkdir -p real/hooks && echo x >real/hooks/h.sh && ln -s real .claude && ln -s real skills');
    const { loader } = await bench.lookAtLoader();
    expect([...(loader?.files.keys() ?? [])]).toEqual([]);
    expect([...(loader?.others ?? [])]).toEqual(['.claude/settings.json']);
  },

  async 'settings come for their owner alone, are told by digest, and go as files do'(bench) {
    const text = '{"token": "hush"}\n';
    const hex = sha256(text).slice(7);
    const receipt = { format: 1, plugin: 'p', workspace: 'default/alice', revision: sha256('r'), sha256: hex } as const;
    const write = (path: string, content: string): Operation => ({
      kind: 'put-file',
      path,
      expect: ABSENT,
      content: Buffer.from(content),
      mode: 0o600,
    });
    const name = named('p');
    const { observation } = await bench.converge([
      write('plugin-settings/p.json', text),
      write('.plugset/settings/p', JSON.stringify(receipt)),
    ]);
    const ours = { name, file: { kind: 'file', uid: bench.backend.owner.uid, sha256: hex }, base: ABSENT, receipt };
    expect(observation.settings?.find((one) => one.name === name)).toMatchObject(ours);
    expect(JSON.stringify(observation)).not.toContain('hush');
    expect(await bench.shell('stat -c %a plugin-settings/p.json .plugset/settings/p', 'root')).toBe('600\n600\n');
    const read = await bench.lookAtSettings();
    expect(read.settings?.find((one) => one.name === name)).toMatchObject({ ...ours, file: { ...ours.file, text } });
    const removal = (path: string, content: string): Operation => ({
      kind: 'remove-file',
      path,
      expect: { kind: 'sha256', sha256: sha256(content).slice(7) },
    });
    const after = await bench.converge([
      removal('plugin-settings/p.json', text),
      removal('.plugset/settings/p', JSON.stringify(receipt)),
      { kind: 'remove-directory', path: 'plugin-settings' },
    ]);
    expect(after.observation).not.toHaveProperty('settings');
    expect(await bench.shell('ls')).not.toContain('plugin-settings');
  },

  async 'settings of others are told of, and none is read through a link'(bench) {
    await bench.converge([]);
    await bench.shell(`mkdir -p plugin-settings/dir.json .plugset/settings .plugset/base/plugin-settings
      printf '{"a":1}' >plugin-settings/own.json; ln -s /etc/passwd plugin-settings/link.json; echo x >plugin-settings/NO.json
      echo x >plugin-settings/notes.txt; echo '{}' >.plugset/settings/garbled; echo '{}' >.plugset/base/plugin-settings/own.json`);
    for (const { settings } of [await bench.look(), await bench.lookAtSettings()]) {
      const found = (settings ?? []).map(({ name, file, receiptFile, base, receipt }) => [
        name,
        [file.kind, receiptFile.kind, base.kind, receipt],
      ]);
      expect(Object.fromEntries(found)).toEqual({
        dir: ['other', 'absent', 'absent', undefined],
        garbled: ['absent', 'file', 'absent', undefined],
        link: ['other', 'absent', 'absent', undefined],
        own: ['file', 'absent', 'file', undefined],
      });
    }
    await bench.shell(
      'mv plugin-settings real; ln -s real plugin-settings; mv .plugset/base base; ln -s ../base .plugset/base',
    );
    const linked = await bench.lookAtSettings();
    expect(linked.areSettingsBlocked).toBe(true);
    expect(linked.settings?.map((one) => one.name)).toEqual(['garbled']);
  },

  async 'no file is written through a link, over one, or where trees go'(bench) {
    const write = (path: string): Operation => ({
      kind: 'put-file',
      path,
      expect: ABSENT,
      content: Buffer.from('x'),
      mode: 0o644,
    });
    await bench.converge([]);
    await bench.shell('mkdir real && ln -s real linked && ln -s real/absent file && mkfifo fifo');
    for (const path of ['linked/x', 'linked/deep/x']) {
      await bench.refusedUntouched('UnsafePath', () => bench.converge([write(path)]));
    }
    const over = (path: string): Operation => ({
      kind: 'remove-file',
      path,
      expect: { kind: 'sha256', sha256: sha256('').slice(7) },
    });
    await bench.refusedUntouched('UnsafePath', () => bench.converge([over('file')]));
    await bench.refusedUntouched('UnsafePath', () => bench.converge([over('fifo')]));
    for (const path of ['../x', '/etc/x', 'a/../b', '.plugset/fence', 'plugins/p/x', 'a\nb', '']) {
      await bench.refusedUntouched('Internal', () => bench.converge([write(path)]));
    }
  },

  // ---- what must not be touched

  async 'a symbolic link in place of the config directory, plugins or .plugset is refused'(bench) {
    const artifact = samplePlugin('p');
    await bench.shell('mkdir -p real/inner && ln -s real link');
    const place = { ...bench.place, configDir: `${bench.backend.configDir}/link` };
    const { host } = bench.backend;
    const { signal } = new AbortController();
    await bench.refusedUntouched('UnsafePath', () => host.observe(place, new Map(), signal));
    await bench.refusedUntouched('UnsafePath', () =>
      host.converge(place, bench.request([bench.put('p', artifact)], [artifact]), signal),
    );
    for (const link of ['plugins', '.plugset']) {
      await bench.shell(`ln -s real/inner ${link}`);
      expect(await bench.refusedUntouched('UnsafePath', () => bench.look())).toMatchObject({ class: 'terminal' });
      await bench.refusedUntouched('UnsafePath', () => bench.converge([bench.put('p', artifact)], [artifact]));
      await bench.shell(`rm ${link}`);
    }
    for (const inner of [
      'files',
      'receipts',
      'executables',
      'staging',
      'trash',
      'journal.d',
      'kept',
      'lock',
      'fence',
      'format',
    ]) {
      await bench.shell(`rm -rf .plugset && mkdir .plugset && ln -s ../real/inner .plugset/${inner}`);
      expect(await bench.refusal(bench.converge([bench.put('p', artifact)], [artifact]))).toMatchObject({
        reason: 'UnsafePath',
      });
      expect(await bench.shell('mkdir -p plugins && find plugins real/inner -mindepth 1')).toBe('');
    }
  },

  async 'plugins or .plugset of another user are refused'(bench) {
    const artifact = samplePlugin('p');
    for (const place of ['plugins', '.plugset', '.']) {
      await bench.shell(`mkdir -p ${place} && chown ${OTHER_USER}:${OTHER_USER} ${place}`, 'root');
      await bench.refusedUntouched('UnsafePath', () => bench.converge([bench.put('p', artifact)], [artifact]));
      await bench.shell(`chown ${bench.backend.owner.uid}:${bench.backend.owner.gid} ${place}`, 'root');
    }
    await bench.install({ p: artifact });
  },

  async 'a full disk is named, and nothing is half done'(bench) {
    const [old, next] = [samplePlugin('p', '1'), samplePlugin('p', '2')];
    await bench.install({ p: old });
    const expected = await bench.expectation('p');
    const big = memoryArtifact({ big: Buffer.alloc(3_000_000, 'x') });
    const both = [bench.put('p', next, expected), bench.put('big', big)];
    const error = await bench.refusedUntouched('DiskFull', () => bench.converge(both, [next, big]));
    expect(error.class).toBe('transient');
    // Not a byte is left: even the first small write of an apply fails.
    await bench.shell('cat /dev/zero >ballast 2>/dev/null || test -s ballast');
    await bench.refusedUntouched('DiskFull', () =>
      bench.converge([bench.put('p', next, expected)], [next], { ...FENCE, n: FENCE.n + 1 }),
    );
    expect(await bench.lookAt('p')).toMatchObject({ listDigest: old.digest, differing: [] });
    await bench.shell('rm ballast');
    await bench.converge([bench.put('p', next, expected)], [next], { ...FENCE, n: FENCE.n + 1 });
    expect(await bench.lookAt('p')).toMatchObject({ listDigest: next.digest, differing: [] });
  },

  async 'a read-only directory is named, and can be looked at'(bench) {
    const artifact = samplePlugin('p');
    await bench.backend.seal();
    expect(
      await bench.refusedUntouched('ReadOnly', () => bench.converge([bench.put('p', artifact)], [artifact])),
    ).toMatchObject({ class: 'terminal' });
    expect((await bench.look()).plugins).toEqual([]);
  },

  async 'a target without tar is named by apply, one without sha256sum by look too'(bench) {
    const artifact = samplePlugin('p');
    await bench.backend.hide('tar');
    const error = await bench.refusedUntouched('ToolMissing', () =>
      bench.converge([bench.put('p', artifact)], [artifact]),
    );
    expect(error.message).toContain('tar is missing');
    expect((await bench.look()).plugins).toEqual([]);
    await bench.backend.hide('sha256sum');
    expect(await bench.refusedUntouched('ToolMissing', () => bench.look())).toMatchObject({ class: 'terminal' });
  },

  async 'a target without a shell is named'(bench) {
    await bench.backend.hide('sh');
    expect(await bench.refusal(bench.look())).toMatchObject({ reason: 'ToolMissing' });
    expect(await bench.refusal(bench.converge([]))).toMatchObject({ reason: 'ToolMissing' });
  },

  async 'content that is not what was announced changes nothing'(bench) {
    const good = samplePlugin('p');
    const bad = withOtherContent(good, 'README.md');
    expect(await bench.refusal(bench.converge([bench.put('p', bad)], [bad]))).toMatchObject({
      reason: 'VerifyFailed',
      class: 'transient',
    });
    expect(await bench.files('plugins')).toEqual([]);
    expect(await bench.shell('find .plugset/staging .plugset/trash -mindepth 1')).toBe('');
  },

  async 'an apply that is called off while it receives changes nothing, and the next one gets in'(bench) {
    const good = samplePlugin('p');
    const stop = new AbortController();
    const stuck: Artifact = {
      ...good,
      async *open() {
        stop.abort(new Error('the lease is lost'));
        await new Promise<void>((resolve) => void setTimeout(resolve, 60_000).unref());
        yield* good.open();
      },
    };
    expect(await bench.refusal(bench.converge([bench.put('p', stuck)], [stuck], FENCE, stop.signal))).toMatchObject({
      class: 'aborted',
    });
    expect((await bench.look()).plugins).toEqual([]);
    await bench.install({ p: good });
  },

  // ---- who may write

  async 'I-62: a second apply is told at once that the lock is held'(bench) {
    const artifact = samplePlugin('p');
    const gate = newGate();
    const slow: Artifact = {
      ...artifact,
      async *open() {
        gate.reached();
        await gate.opened;
        yield* artifact.open();
      },
    };
    const big = memoryArtifact({ ballast: Buffer.alloc(400_000, 'x') });
    const first = bench.converge([bench.put('big', big), bench.put('p', slow)], [big, slow]);
    await Promise.race([gate.arrival, first]);
    // Content is asked for as soon as the transport has room for it. A fence is only written under the lock.
    await eventually(async () => expect(await bench.files('.plugset')).toContain('.plugset/fence'));
    const second = await bench.refusal(bench.converge([bench.put('q', artifact)], [artifact]));
    expect(second).toMatchObject({ reason: 'LockHeld', class: 'transient' });
    expect(await bench.files('plugins')).toEqual([]);
    gate.open();
    expect((await first).failed).toEqual(new Map());
    expect((await bench.converge([bench.put('q', artifact)], [artifact])).observation.plugins).toHaveLength(3);
  },

  async 'an older turn is refused, and so is an older epoch; a newer epoch wins whatever its turn'(bench) {
    const artifact = samplePlugin('p');
    await bench.install({ p: artifact });
    for (const older of [
      { ...FENCE, n: 4 },
      { ...FENCE, epoch: 999, n: 90 },
    ]) {
      const error = await bench.refusedUntouched('StaleFence', () =>
        bench.converge([bench.put('q', artifact)], [artifact], older),
      );
      expect(error.class).toBe('aborted');
    }
    await bench.converge([], [], { ...FENCE, n: 6 });
    expect((await bench.look()).fence).toEqual({ ...FENCE, n: 6 });
    await bench.converge([], [], { ...FENCE, epoch: 1001, n: 1 });
    expect((await bench.look()).fence).toEqual({ ...FENCE, epoch: 1001, n: 1 });
  },

  async 'another authority is refused, and a fence that cannot be read refuses everybody'(bench) {
    const artifact = samplePlugin('p');
    await bench.install({ p: artifact });
    const attempt = (fence: Fence) => () => bench.converge([bench.put('q', artifact)], [artifact], fence);
    expect(
      await bench.refusedUntouched('ForeignOwner', attempt({ ...FENCE, authority: 'store-2', epoch: 2000 })),
    ).toMatchObject({ class: 'terminal' });
    for (const garbage of [
      '',
      'x',
      'store-1 1000',
      'store-1 1000 x',
      'store-1 1000 5 5',
      'store-1 -1 5',
      `store-1 ${'9'.repeat(20)} 5`,
      '../x 1 1',
      '\\033[31m 1 1',
    ]) {
      await bench.shell(`printf '${garbage}' >.plugset/fence`);
      await bench.refusedUntouched('ForeignOwner', attempt(FENCE));
      expect((await bench.look()).fence).toBeUndefined();
    }
  },

  async 'a place is taken over from the authority that a person names, whatever its turn was, and from no other'(
    bench,
  ) {
    const artifact = samplePlugin('p');
    await bench.install({ p: artifact });
    const ours = { authority: 'store-2', epoch: 1, n: 1 };
    const take = (takenFrom: string) => () =>
      bench.backend.host.converge(
        bench.place,
        { ...bench.request([], [], ours), takenFrom },
        new AbortController().signal,
      );
    await bench.refusedUntouched('ForeignOwner', take('store-3'));
    const { observation } = await take(FENCE.authority)();
    expect(observation).toMatchObject({ fence: ours, plugins: [{ name: 'p', differing: [] }] });
    await bench.refusedUntouched('ForeignOwner', () => bench.converge([], []));
    // Among our own turns the order holds as ever.
    await bench.refusedUntouched('StaleFence', () =>
      bench.backend.host.converge(
        bench.place,
        { ...bench.request([], [], { ...ours, n: 0 }), takenFrom: FENCE.authority },
        new AbortController().signal,
      ),
    );
  },
};

async function* single(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function newGate(): { reached: () => void; open: () => void; arrival: Promise<void>; opened: Promise<void> } {
  let reached = (): void => undefined;
  let open = (): void => undefined;
  const arrival = new Promise<void>((resolve) => (reached = resolve));
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { reached: () => reached(), open: () => open(), arrival, opened };
}
