import { describe, expect, it } from 'vitest';

import type { Config } from '../../../src/config.ts';
import type { OpenedStore } from '../../../src/stores.ts';
import { runInProcess } from '../../support/run-cli.ts';

describe('in a cluster', () => {
  /** The namespaces that a command line reads, and whether it asked which one the context means. */
  async function read(...argv: readonly string[]): Promise<{ readonly kind: string; readonly namespaces: unknown }> {
    let opened: Config | undefined;
    await runInProcess(argv, {
      isKubectlPlugin: true,
      homeNamespace: async () => 'home',
      openStore: async (config): Promise<OpenedStore> => {
        opened = config;
        throw new Error('that was enough');
      },
    });
    const { store } = opened ?? {};
    return {
      kind: store?.kind ?? '',
      namespaces: store !== undefined && 'namespaces' in store ? store.namespaces : undefined,
    };
  }

  it.each([
    [['status'], ['home']],
    [['status', 'alice'], ['home']],
    [
      ['status', 'alice', 'team-b/bob'],
      ['home', 'team-b'],
    ],
    [['status', '-n', 'team-a'], ['team-a']],
    [['status', '-A'], undefined],
    [['explain', 'alice'], ['home']],
    [['validate'], ['home']],
    [['validate', '-A'], undefined],
    [['reconcile', 'alice', '-n', 'team-a'], ['team-a']],
  ])('%j reads %j', async (argv, namespaces) => {
    expect(await read(...argv)).toEqual({ kind: 'kubernetes', namespaces });
  });

  it('a command that is told of files is about files', async () => {
    expect(await read('status', '--files', '/w')).toEqual({ kind: 'files', namespaces: undefined });
  });

  it('one namespace and all of them are not the same', async () => {
    const { code, stderr } = await runInProcess(['status', '-n', 'team-a', '-A'], { isKubectlPlugin: true });
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('cannot be used with') as string });
  });
});
