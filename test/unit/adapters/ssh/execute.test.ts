import { expect, it } from 'vitest';

import { execute } from '../../../../src/adapters/ssh/execute.ts';
import type { SshSession, Started } from '../../../../src/adapters/ssh/session.ts';
import { Deadline } from '../../../../src/ports/deadline.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

it('claims no command that was asked for and called off before the host said that it runs', async () => {
  const stop = new AbortController();
  const deadline = new Deadline(new FakeClock(), 1000, stop.signal);
  const error = new Error('no answer');
  const start = async (): Promise<Started> => {
    stop.abort();
    return { kind: 'lost', error };
  };
  const end = await execute({ start } as unknown as SshSession, ['true'], { mark: 'mark' }, deadline);
  expect(end).toMatchObject({ kind: 'lost', ours: false, error });
});
