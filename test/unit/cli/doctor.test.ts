import { describe, expect, it } from 'vitest';

import type { Finding } from '../../../src/doctor.ts';
import { eventually } from '../../support/eventually.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { runInProcess, type CliRun } from '../../support/run-cli.ts';

const FINE: Finding = { check: 'git', result: 'ok', seen: 'git version 2.39.5' };
const ODD: Finding = { check: 'leader', result: 'warn', seen: 'nobody leads', fix: 'Start `plugset run`.' };
const BAD: Finding = { check: 'store', result: 'FAIL', seen: 'no answer', fix: 'Start it.' };

const run = (argv: readonly string[], ...findings: readonly Finding[]): Promise<CliRun> =>
  runInProcess(['doctor', ...argv], { diagnose: async () => findings });

describe('doctor', () => {
  it('shows a table, and below what is not ok what to do', async () => {
    expect(await run([], FINE, ODD, BAD)).toEqual({
      code: 1,
      stderr: '',
      stdout: `\
CHECK   RESULT  SEEN, AND WHAT TO DO
git     ok      git version 2.39.5
leader  warn    nobody leads
                -> Start \`plugset run\`.
store   FAIL    no answer
                -> Start it.
`,
    });
  });

  it('ends with 0 unless something fails', async () => {
    expect((await run([], FINE, ODD)).code).toBe(0);
    expect((await run([], BAD)).code).toBe(1);
  });

  it('gives the same as data', async () => {
    const { code, stdout } = await run(['-o', 'json'], FINE, BAD);
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toEqual({ kind: 'Diagnosis', ok: false, checks: [FINE, BAD] });
    expect((await run(['-o', 'yaml'], FINE)).stdout).toContain('kind: Diagnosis\nok: true\n');
  });

  it('tells whoever watches that it goes on, when that takes long', async () => {
    const watched = async (isTerminal: boolean): Promise<string> => {
      const clock = new FakeClock();
      const diagnose = async (): Promise<Finding[]> => {
        await clock.sleep(30_000, new AbortController().signal);
        return [FINE];
      };
      const running = runInProcess(['doctor', 'alice'], { diagnose, clock, isTerminal });
      await eventually(() => expect(clock.pendingTimers).toBe(2));
      await clock.advance(30_000);
      expect(clock.pendingTimers).toBe(0);
      return (await running).stderr;
    };
    expect(await watched(true)).toMatch(/^still looking at the way to default\/alice; .*\n$/);
    expect(await watched(false)).toBe('');
  });

  it('hands on what was typed, and which workspace', async () => {
    const asked: unknown[] = [];
    const diagnose = async (given: Readonly<Record<string, unknown>>, workspace: unknown): Promise<Finding[]> => {
      asked.push(given['files'], workspace);
      return [];
    };
    await runInProcess(['doctor', 'alice', '-n', 'team-a', '--files', '/w'], { diagnose });
    expect(asked).toEqual(['/w', 'team-a/alice']);
  });
});
