import { readFile } from 'node:fs/promises';

import { describe, expect, it } from 'vitest';

import { NEEDED_TOOLS, ScriptTools } from '../../../src/plugins/tools.ts';
import type { WorkspaceTarget } from '../../../src/ports/workspace-target.ts';

const { signal } = new AbortController();

/** A target on which everything is, but what is not. */
function without(...missing: readonly string[]): Pick<WorkspaceTarget, 'run'> & WorkspaceTarget {
  const run: WorkspaceTarget['run'] = async ([, , , , ...tools]) => {
    const lines = tools.map((tool) => `${tool} ${missing.includes(tool) ? '' : `/usr/bin/${tool}`}\n`);
    return { kind: 'exited', code: 0, stdout: Buffer.from(lines.join('')), stderr: Buffer.alloc(0) };
  };
  return { identity: 'x', description: 'host x', run, probe: async () => ({ kind: 'unsupported' }) };
}

describe('the tools that a target needs', () => {
  it('are those that the scripts ask for', async () => {
    const scripts = ['look.sh', 'lock.sh', 'apply.sh'].map((name) =>
      readFile(new URL(`../../../src/plugins/${name}`, import.meta.url), 'utf8'),
    );
    const asked = (await Promise.all(scripts))
      .flatMap((text) => [...text.matchAll(/^\s*need_tools ([a-z0-9 ]+)$/gm)])
      .flatMap(([, names = '']) => names.split(' '));
    expect(new Set(asked)).toEqual(new Set([...NEEDED_TOOLS, 'mkfifo', 'sleep']));
  });

  it('are named together when several are missing', async () => {
    const target = without('tar', 'awk');
    await expect(new ScriptTools().tools({ target }, signal)).rejects.toMatchObject({
      class: 'terminal',
      reason: 'ToolMissing',
      message: 'host x lacks awk, tar',
    });
  });

  it.each([
    [['flock'], undefined],
    [['mkfifo', 'sleep'], undefined],
    [['flock', 'mkfifo'], 'host x lacks flock'],
  ])('to lock with are one or the other: without %j', async (missing, message) => {
    const looked = new ScriptTools().tools({ target: without(...missing) }, signal);
    if (message === undefined)
      expect((await looked).filter(({ path }) => path === undefined)).toHaveLength(missing.length);
    else await expect(looked).rejects.toMatchObject({ message });
  });
});
