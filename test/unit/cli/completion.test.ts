import { execFile, spawnSync } from 'node:child_process';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { beforeEach, describe, expect, it } from 'vitest';

import { runInProcess } from '../../support/run-cli.ts';
import { tempDir } from '../../support/temp-dir.ts';

const run = promisify(execFile);
const DEADLINE_MS = 60_000;

/** What is typed, and what one TAB makes of it; the cursor is at its end. */
const LINES: readonly (readonly [typed: string, completed: string])[] = [
  ['plugset exp', 'explain'],
  ['plugset completion fi', 'fish'],
  ['plugset manifests c', 'crd'],
  ['plugset help val', 'validate'],
  ['plugset status --wat', '--watch'],
  ['plugset status -o js', 'json'],
  ['plugset status --output wi', 'wide'],
  ['plugset run --worke', '--workers'],
  ['plugset explain al', 'alice'],
  ['plugset reconcile team-a/b', 'team-a/bob'],
  ['plugset delete alice team-a/b', 'team-a/bob'],
];

let dir: string;
let env: Record<string, string>;

beforeEach(async () => {
  dir = await tempDir();
  await mkdir(join(dir, 'bin'));
  // As it is called by the scripts; what it is asked is kept.
  const program = join(dir, 'bin/plugset');
  await writeFile(program, `#!/bin/sh\necho "$@" >>"${dir}/asked"\nprintf '%s\\n' alice team-a/bob\n`);
  await chmod(program, 0o755);
  await writeFile(join(dir, 'fleet.yaml'), '');
  await mkdir(join(dir, 'fleet'));
  env = { PATH: `${join(dir, 'bin')}:${process.env['PATH'] ?? ''}`, HOME: dir, TERM: 'xterm', LANG: 'C' };
});

async function script(shell: string): Promise<string> {
  const { code, stdout } = await runInProcess(['completion', shell]);
  expect(code).toBe(0);
  const path = join(dir, shell);
  await writeFile(path, stdout);
  return path;
}

function isMissing(shell: string): boolean {
  return spawnSync(shell, ['-c', 'exit 0']).error !== undefined && process.env['CI'] !== 'true';
}

async function runShell(name: string, ...args: readonly string[]): Promise<readonly string[]> {
  const { stdout } = await run(name, [...args], { env, cwd: dir, timeout: DEADLINE_MS });
  return stdout.split('\n').filter((line) => line !== '');
}

async function asked(): Promise<string> {
  return (await run('cat', [join(dir, 'asked')])).stdout;
}

it('completion knows three shells', async () => {
  expect(await runInProcess(['completion', 'csh'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('Allowed choices are bash, zsh, fish'),
  });
});

describe.skipIf(isMissing('bash'))('completion in bash', () => {
  /** Calls the function as readline does; the last word is the one under the cursor. */
  const complete = async (...words: readonly string[]): Promise<readonly string[]> => {
    const call = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _plugset; printf "%s\\n" "${COMPREPLY[@]}"';
    return runShell('bash', '--noprofile', '--norc', '-c', call, await script('bash'), ...words);
  };

  it.each(LINES)('%s', async (typed, completed) => {
    expect(await complete(...typed.split(' '))).toEqual([completed]);
  });

  it('lists everything that may stand there', async () => {
    expect(await complete('plugset', '')).toEqual(
      expect.arrayContaining(['apply', 'doctor', 'explain', 'help', 'run', 'status', 'version']),
    );
    expect(await complete('plugset', 'status', '-o', '')).toEqual(['table', 'wide', 'name', 'json', 'yaml']);
    // --output=wi, as bash takes it apart.
    expect(await complete('plugset', 'status', '--output', '=', 'wi')).toEqual(['wide']);
    expect(await complete('plugset', 'status', '--output', '=')).toContain('json');
    expect(await complete('plugset', 'run', '--workers', '')).toEqual([]);
    expect(await complete('plugset', 'nothing', '')).toEqual([]);
  });

  it('lists files, and directories where only they are meant', async () => {
    expect((await complete('plugset', 'validate', 'fle')).toSorted()).toEqual(['fleet', 'fleet.yaml']);
    expect(await complete('plugset', 'run', '--config', 'fleet.')).toEqual(['fleet.yaml']);
    expect(await complete('plugset', 'run', '--files', 'fle')).toEqual(['fleet']);
  });

  it('asks the store that the line names', async () => {
    await complete('plugset', 'explain', '--files', '~/my fleet', '-n', 'team-a', '');
    expect(await asked()).toBe(`status -o name --files ${dir}/my fleet -n team-a\n`);
  });
});

describe.skipIf(isMissing('fish'))('completion in fish', () => {
  const complete = async (line: string): Promise<readonly string[]> => {
    const call = 'source $argv[1]; complete -C $argv[2]';
    const lines = await runShell('fish', '--no-config', '-c', call, await script('fish'), line);
    return lines.map((one) => one.split('\t')[0] ?? '');
  };

  it.each(LINES)('%s', async (typed, completed) => {
    expect(await complete(typed)).toEqual([completed]);
  });

  it('lists everything that may stand there', async () => {
    expect(await complete('plugset ')).toEqual(
      expect.arrayContaining(['apply', 'doctor', 'explain', 'help', 'run', 'status', 'version']),
    );
    expect(await complete('plugset status -o ')).toEqual(['json', 'name', 'table', 'wide', 'yaml']);
    expect(await complete('plugset validate fleet.')).toEqual(['fleet.yaml']);
    expect(await complete('plugset run --files fle')).toEqual(['fleet/']);
  });

  it('asks the store that the line names', async () => {
    await complete('plugset explain --files ~/fleet -n team-a ');
    expect(await asked()).toBe(`status -o name --files ${dir}/fleet -n team-a\n`);
  });
});

describe.skipIf(isMissing('zsh'))('completion in zsh', () => {
  /** A zsh at a terminal, which a second one types into; each line is kept as one TAB has left it. */
  const DRIVER = String.raw`
    zmodload zsh/zpty
    zpty shell 'zsh -f -i'
    zpty -w shell "PS1=''; autoload -Uz compinit; compinit -u -D; source $1"
    zpty -w shell "keep() { print -r -- \$BUFFER >> $2; BUFFER= }; zle -N keep; bindkey '^T' keep"
    zpty -w shell "print -r re''ady"
    zpty -r shell output '*ready*'
    shift 2
    for line; do zpty -w -n shell "$line"$'\t\x14'; done
    zpty -w shell "print -r do''ne"
    zpty -r shell output '*done*'
    zpty -d shell`;

  const complete = async (...lines: readonly string[]): Promise<readonly string[]> => {
    const kept = join(dir, 'kept');
    await runShell('zsh', '-f', '-c', DRIVER, 'driver', await script('zsh'), kept, ...lines);
    return (await run('cat', [kept])).stdout.split('\n').slice(0, -1);
  };

  it('one TAB', async () => {
    const typed = LINES.map(([line]) => line);
    const completed = LINES.map(([line, word]) => `${line.slice(0, line.lastIndexOf(' '))} ${word} `);
    expect(await complete(...typed)).toEqual(completed);
  });

  it('completes files, and directories where only they are meant', async () => {
    expect(await complete('plugset run --config fleet.', 'plugset run --files fle')).toEqual([
      'plugset run --config fleet.yaml ',
      'plugset run --files fleet/',
    ]);
  });

  it('asks the store that the line names', async () => {
    await complete('plugset explain --files ~/fleet -n team-a al');
    expect(await asked()).toBe(`status -o name --files ${dir}/fleet -n team-a\n`);
  });
});
