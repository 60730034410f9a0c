import { describe, expect, it } from 'vitest';

import { SshActivator } from '../../../../src/adapters/ssh/ssh-activator.ts';
import type { RunResult } from '../../../../src/ports/workspace-target.ts';

const SIGNAL = new AbortController().signal;
const ACTIVATION = { restart: ['restart'], startedAt: ['started'] };

describe('SshActivator', () => {
  it('reads when the runtime was started, in every form that a command may print', async () => {
    const ms = Date.UTC(2026, 10, 23, 10, 0, 0);
    for (const printed of [
      `${ms / 1000}`,
      `@${ms / 1000}`,
      'Mon 2026-11-23 10:00:00 UTC',
      '2026-11-23T10:00:00Z',
      '2026-11-23T11:00:00.000+01:00',
    ])
      expect((await printing(`${printed}\n`).inspect('', SIGNAL)).startedAtMs, printed).toBe(ms);
  });

  it('takes nothing for a runtime that does not run, and refuses what is no time', async () => {
    expect((await printing('\n').inspect('', SIGNAL)).startedAtMs).toBe(0);
    await expect(printing('n/a\n').inspect('', SIGNAL)).rejects.toMatchObject({ reason: 'ObserveFailed' });
    await expect(printing('', 1).inspect('', SIGNAL)).rejects.toMatchObject({ reason: 'ObserveFailed' });
  });

  it('says whether the restart failed, or nobody knows', async () => {
    await expect(printing('', 0).restart(SIGNAL)).resolves.toBeUndefined();
    await expect(printing('', 5).restart(SIGNAL)).rejects.toMatchObject({
      class: 'transient',
      reason: 'RestartFailed',
    });
    const lost = new SshActivator('host', ACTIVATION, async () => ({
      kind: 'unknown',
      message: 'cut',
      cause: undefined,
    }));
    await expect(lost.restart(SIGNAL)).rejects.toMatchObject({ reason: 'OutcomeUnknown' });
  });
});

function printing(text: string, code = 0): SshActivator {
  const result: RunResult = { kind: 'exited', code, stdout: Buffer.from(text), stderr: Buffer.alloc(0) };
  return new SshActivator('host', ACTIVATION, async () => result);
}
