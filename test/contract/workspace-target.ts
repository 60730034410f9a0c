import { setMaxListeners } from 'node:events';

import { expect } from 'vitest';

import type { RunOptions, RunResult, WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import { eventually } from '../support/eventually.ts';
import { describeCases, type Cases, type Unsupported } from './cases.ts';

/** One workspace that runs, and what people and accidents do to it past the port. */
export interface WorkspaceTargetBackend {
  /** Locates it anew, as every pass does. */
  locate(): Promise<WorkspaceTarget>;
  /** Where it keeps plugins: exists, belongs to `owner`, is empty. */
  readonly configDir: string;
  readonly owner: { readonly uid: number; readonly gid: number };
  /** Uid under which `observer` runs here. */
  readonly observerUid: number;
  /** Whether `configDir/name` exists. */
  exists(name: string): Promise<boolean>;
  /** Command lines of everything that runs on the target. */
  commandLines(): Promise<readonly string[]>;
  /** Takes the workspace away, with everything that runs in it. */
  remove(): Promise<void>;
  /** Ends every connection there is; new ones get through. */
  cut?(): void;
  /** From now on nothing gets through, and nobody is told. */
  blackHole?(): void;
  /** From now on connections are refused. */
  refuse?(): void;
  dispose(): Promise<void>;
}

export interface WorkspaceTargetHarness {
  create(): Promise<WorkspaceTargetBackend>;
  /** Cases that cannot hold for this target, by name, each with the reason. A name that is no case fails the suite. */
  readonly unsupported?: Unsupported;
}

interface CaseContext {
  readonly backend: WorkspaceTargetBackend;
  readonly target: WorkspaceTarget;
  readonly signal: AbortSignal;
  run(argv: readonly string[], options?: Partial<RunOptions>): Promise<RunResult>;
}

export function describeWorkspaceTarget(name: string, harness: WorkspaceTargetHarness): void {
  describeCases(`WorkspaceTarget: ${name}`, CASES, harness.unsupported, async (later): Promise<CaseContext> => {
    const backend = await harness.create();
    later(() => backend.dispose());
    const target = await backend.locate();
    const stop = new AbortController();
    later(() => stop.abort(new Error('the case is over')));
    const { signal } = stop;
    // One signal for 20 runs at once is no leak.
    setMaxListeners(0, signal);
    return {
      backend,
      target,
      signal,
      run: (argv, options) => target.run(argv, { as: 'observer', deadlineMs: 30_000, signal, ...options }),
    };
  });
}

const CASES: Cases<CaseContext> = {
  'hands back the exit code': async ({ run }) => {
    expect(await run(['sh', '-c', 'exit 7'])).toMatchObject({ kind: 'exited', code: 7 });
    expect(await run(['true'])).toMatchObject({ kind: 'exited', code: 0 });
  },

  'keeps stdout and stderr apart': async ({ run }) => {
    const result = await run(['sh', '-c', 'echo out; echo err >&2; echo out; echo err >&2']);
    expect(texts(result)).toEqual({ stdout: 'out\nout\n', stderr: 'err\nerr\n' });
  },

  'carries 5 MB of output, byte for byte': async ({ run }) => {
    const result = await run(['sh', '-c', 'head -c 5000000 /dev/zero | tr "\\0" "\\377"; echo end >&2']);
    const { stdout, stderr } = exited(result);
    expect(stdout.equals(Buffer.alloc(5_000_000, 0xff))).toBe(true);
    expect(stderr.toString()).toBe('end\n');
  },

  'carries binary stdin, byte for byte': async ({ run }) => {
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 7) % 256));
    const { stdout } = exited(await run(['cat'], { stdin: chunked(bytes, 65_521) }));
    expect(stdout.equals(bytes)).toBe(true);
  },

  'gives an empty stdin where none is given': async ({ run }) => {
    expect(texts(await run(['cat']))).toEqual({ stdout: '', stderr: '' });
  },

  'keeps what is printed after the end of stdin': async ({ run }) => {
    const result = await run(['sh', '-c', 'cat >/dev/null; sleep 0.2; echo late'], {
      stdin: chunked(Buffer.alloc(100_000), 1_000),
    });
    expect(texts(result).stdout).toBe('late\n');
  },

  'keeps output and exit code of a command that leaves its stdin unread': async ({ run }) => {
    for (let turn = 0; turn < 5; turn += 1) {
      const stdin = chunked(Buffer.alloc(8_000_000), 64 * 1024);
      const result = await run(['sh', '-c', 'echo out; echo err >&2; exit 3'], { stdin });
      expect(result).toMatchObject({ kind: 'exited', code: 3 });
      expect(texts(result)).toEqual({ stdout: 'out\n', stderr: 'err\n' });
    }
  },

  'takes stdin no faster than the command does': async ({ run }) => {
    let taken = 0;
    async function* endless(): AsyncGenerator<Buffer> {
      for (; taken < 1e9; taken += 65_536) yield Buffer.alloc(65_536);
    }
    await expect(run(['sleep', '100'], { stdin: endless(), deadlineMs: 2_000 })).rejects.toMatchObject({
      reason: 'ExecTimeout',
    });
    expect(taken).toBeLessThan(64 * 1024 * 1024);
  },

  'delivers every argument as it is': async ({ run }) => {
    const args = [
      '',
      ' ',
      'a b',
      "'",
      '"',
      '$(id)',
      '`id`',
      '\\n',
      'line\nfeed',
      '*',
      ';',
      '-n',
      '--',
      '😀',
      '\u00a0',
      'tab\t',
      '!x',
      '%s',
    ];
    const { stdout } = texts(await run(['sh', '-c', 'for each; do printf "<%s>" "$each"; done', 'sh', ...args]));
    expect(stdout).toBe(args.map((arg) => `<${arg}>`).join(''));
  },

  'refuses a NUL, and an empty command': async ({ run }) => {
    await expect(run(['echo', 'a\0b'])).rejects.toMatchObject({ class: 'terminal', reason: 'Internal' });
    await expect(run([])).rejects.toMatchObject({ class: 'terminal', reason: 'Internal' });
  },

  'says 127 or 126 of a program that does not exist': async ({ run }) => {
    for (const program of ['plugset-no-such-program', '/no/such/program']) {
      const result = await run([program, 'x']);
      expect([126, 127]).toContain(exited(result).code);
      expect(texts(result)).toEqual({ stdout: '', stderr: expect.stringMatching(/\S/) as string });
    }
  },

  'runs as the user that is asked for': async ({ run, backend }) => {
    expect(texts(await run(['id', '-u'])).stdout).toBe(`${backend.observerUid}\n`);
    const { uid, gid } = backend.owner;
    expect(texts(await run(['sh', '-c', 'id -u; id -g'], { as: backend.owner })).stdout).toBe(`${uid}\n${gid}\n`);
  },

  'kills the command and its children at the deadline': async ({ run, backend }) => {
    for (const as of ['observer', backend.owner] as const) {
      const nap = uniqueNap();
      const family = ['sh', '-c', 'sleep "$1" & (sleep "$1"; :) & sleep "$1"; :', 'sh', nap];
      await expect(run(family, { as, deadlineMs: 3_000 })).rejects.toMatchObject({
        class: 'transient',
        reason: 'ExecTimeout',
      });
      await expectGone(backend, nap);
    }
  },

  'kills the command and its children when it is called off': async ({ run, backend }) => {
    const nap = uniqueNap();
    const stop = new AbortController();
    const running = outcome(run(napping(backend, nap), { as: backend.owner, signal: stop.signal }));
    await eventually(async () => expect(await backend.exists('started')).toBe(true));
    expect((await backend.commandLines()).some((line) => line.includes(nap))).toBe(true);
    stop.abort(new Error('lease lost'));
    expect(await running).toMatchObject({ class: 'aborted' });
    await expectGone(backend, nap);
  },

  'starts nothing for a signal that has aborted': async ({ run, backend }) => {
    const signal = AbortSignal.abort(new Error('shutting down'));
    await expect(
      run(['sh', '-c', 'echo >"$1"', 'sh', `${backend.configDir}/started`], { signal }),
    ).rejects.toMatchObject({ class: 'aborted' });
    expect(await backend.exists('started')).toBe(false);
  },

  'ends a command that prints too much': async ({ run, backend }) => {
    for (const redirect of ['', ' >&2']) {
      const nap = uniqueNap();
      const flood = ['sh', '-c', `sleep "$1" & yes${redirect}`, 'sh', nap];
      await expect(run(flood, { maxOutputBytes: 100_000 })).rejects.toMatchObject({
        class: 'transient',
        reason: 'ObserveFailed',
      });
      await expectGone(backend, nap);
    }
  },

  'ends the command when its stdin breaks, and says why': async ({ run, backend }) => {
    const nap = uniqueNap();
    const broken = new Error('the artifact is gone');
    async function* breaking(): AsyncGenerator<Buffer> {
      yield Buffer.from('some');
      throw broken;
    }
    await expect(run(napping(backend, nap), { stdin: breaking() })).rejects.toBe(broken);
    await expectGone(backend, nap);
  },

  'keeps its deadline though stdin stalls': async ({ run }) => {
    async function* stalling(): AsyncGenerator<Buffer> {
      yield Buffer.from('some');
      await new Promise(() => undefined);
    }
    await expect(run(['cat'], { stdin: stalling(), deadlineMs: 2_000 })).rejects.toMatchObject({
      reason: 'ExecTimeout',
    });
  },

  'runs 20 at once and mixes nothing up': async ({ run }) => {
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        run(['sh', '-c', 'cat; echo "$1" >&2; exit "$1"', 'sh', String(index)], {
          stdin: chunked(Buffer.from(`in ${index}`), 2),
        }),
      ),
    );
    for (const [index, result] of results.entries()) {
      expect(result).toMatchObject({ kind: 'exited', code: index });
      expect(texts(result)).toEqual({ stdout: `in ${index}`, stderr: `${index}\n` });
    }
  },

  'is one thing, however often it is located': async ({ backend, target }) => {
    const again = await backend.locate();
    expect(again.identity).toBe(target.identity);
    expect(target.description).toMatch(/\S/);
  },

  'waits for a target that is gone before the command': async ({ run, backend, target, signal }) => {
    await backend.remove();
    const error = await outcome(run(['true']));
    expect(error).toMatchObject({
      class: 'waiting',
      reason: expect.stringMatching(/^WorkspaceNot(Found|Running)$/) as string,
    });
    expect(await target.probe(backend.configDir, signal)).toMatchObject({ kind: 'unknown' });
    await expect(backend.locate()).rejects.toMatchObject({ class: 'waiting', reason: 'WorkspaceNotFound' });
  },

  'claims no success for a target that goes away under the command': async ({ run, backend }) => {
    const running = outcome(run(napping(backend, uniqueNap())));
    await eventually(async () => expect(await backend.exists('started')).toBe(true));
    await backend.remove();
    const result = await running;
    if ('kind' in result && result.kind === 'exited') expect(result.code).not.toBe(0);
    else expect(result).toMatchObject({ kind: 'unknown' });
  },

  'calls the outcome unknown when the connection is cut under the command': async ({ run, backend }) => {
    const nap = uniqueNap();
    const running = run(napping(backend, nap));
    await eventually(async () => expect(await backend.exists('started')).toBe(true));
    backend.cut?.();
    expect(await running).toMatchObject({ kind: 'unknown' });
    await expectGone(backend, nap);
  },

  'calls the outcome unknown when nothing gets through any more': async ({ run, backend }) => {
    const running = run(napping(backend, uniqueNap()), { deadlineMs: 4_000 });
    await eventually(async () => expect(await backend.exists('started')).toBe(true));
    backend.blackHole?.();
    expect(await running).toMatchObject({ kind: 'unknown' });
  },

  'never takes a target that it could not ask for one that is gone': async ({ run, backend, target, signal }) => {
    backend.refuse?.();
    await expect(run(['true'])).rejects.toMatchObject({ class: 'transient', reason: 'Unreachable' });
    await expect(backend.locate()).rejects.toMatchObject({ class: 'transient', reason: 'Unreachable' });
    expect((await target.probe(backend.configDir, signal)).kind).toMatch(/^(unknown|unsupported)$/);
  },

  'gives an equal token while nothing changes': async ({ run, backend, target, signal }) => {
    await install(run, backend);
    const before = await target.probe(backend.configDir, signal);
    expect(before).toMatchObject({ kind: 'token' });
    await run(['sh', '-c', 'cat "$1"/plugins/one/file; ls "$1"', 'sh', backend.configDir]);
    expect(await target.probe(backend.configDir, signal)).toEqual(before);
    expect(await (await backend.locate()).probe(backend.configDir, signal)).toEqual(before);
  },

  'gives another token after a plugin or a receipt came or went': async ({ run, backend, target, signal }) => {
    await install(run, backend);
    for (const change of [
      'rm -r "$1/plugins/one"',
      'mkdir "$1/plugins/two"',
      'mv "$1/.plugset/receipts/one" "$1/.plugset/receipts/two"',
    ]) {
      const before = await target.probe(backend.configDir, signal);
      expect(await run(['sh', '-c', change, 'sh', backend.configDir], { as: backend.owner })).toMatchObject({
        code: 0,
      });
      const after = await target.probe(backend.configDir, signal);
      expect(after).toMatchObject({ kind: 'token' });
      expect(after).not.toEqual(before);
    }
  },

  'calls no place blank that something of ours is in': async ({ run, backend, target, signal }) => {
    const { configDir, owner: as } = backend;
    for (const ours of ['plugins', '.plugset']) {
      expect(await run(['mkdir', `${configDir}/${ours}`], { as })).toMatchObject({ code: 0 });
      expect((await target.probe(configDir, signal)).kind).not.toBe('blank');
      expect(await run(['rmdir', `${configDir}/${ours}`], { as })).toMatchObject({ code: 0 });
    }
  },

  'gives no token for a place that is not there': async ({ backend, target, signal }) => {
    expect(await target.probe(`${backend.configDir}/nowhere`, signal)).toMatchObject({ kind: 'unknown' });
  },
};

/** Says that it runs by making a file, then does nothing for as long as the case lasts. */
function napping({ configDir }: WorkspaceTargetBackend, nap: string): readonly string[] {
  return ['sh', '-c', 'sleep "$1" & echo >"$2"; sleep "$1"; :', 'sh', nap, `${configDir}/started`];
}

/** A number of seconds that no other process sleeps for, so that the sleepers of a case can be told from all others. */
function uniqueNap(): string {
  return String(1_000_000 + Math.floor(Math.random() * 1_000_000_000));
}

/** A killed process does nothing any more, yet is listed until the kernel has taken it apart. */
async function expectGone(backend: WorkspaceTargetBackend, nap: string): Promise<void> {
  await eventually(
    async () => expect((await backend.commandLines()).filter((line) => line.includes(nap))).toEqual([]),
    5_000,
  );
}

/** The file times of some systems tick every 4 ms only, so the changes that follow are made some ticks later. */
async function install(run: CaseContext['run'], { configDir, owner }: WorkspaceTargetBackend): Promise<void> {
  const script =
    'mkdir -p "$1/plugins/one" "$1/.plugset/receipts" && echo x >"$1/plugins/one/file" && echo x >"$1/.plugset/receipts/one" && sleep 0.1';
  expect(await run(['sh', '-c', script, 'sh', configDir], { as: owner })).toMatchObject({ code: 0 });
}

async function* chunked(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}

function exited(result: RunResult): Extract<RunResult, { kind: 'exited' }> {
  if (result.kind !== 'exited') throw new Error(`the outcome is unknown: ${result.message}`, { cause: result.cause });
  return result;
}

function texts(result: RunResult): { readonly stdout: string; readonly stderr: string } {
  const { stdout, stderr } = exited(result);
  return { stdout: stdout.toString(), stderr: stderr.toString() };
}

/** What a call came to: its answer, or the error it threw. */
async function outcome<T>(call: Promise<T>): Promise<T | Error> {
  return call.catch((error: unknown) => {
    if (error instanceof Error) return error;
    throw error;
  });
}
