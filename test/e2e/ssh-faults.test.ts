import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import type { AllowedHosts } from '../../src/domain/access.ts';
import { findCondition } from '../../src/domain/condition.ts';
import type { WorkspaceStatus } from '../../src/domain/status.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { SshMachine } from '../support/machine/ssh-machine.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

const AGENT = 1500;
/** A login is given up after half a minute. */
const LOGIN_AND_MORE_MS = 60_000;

await withBackend('machine', () => {
  describe('what goes wrong with one workspace on a host', () => {
    let alice: SshMachine;
    let bob: SshMachine;
    let plugset: Plugset | undefined;

    beforeEach(async () => {
      [alice, bob] = await Promise.all([boot(), boot()]);
    });
    afterEach(async () => {
      await plugset?.stop();
      plugset = undefined;
      await Promise.all([alice.close(), bob.close()]);
    });

    /** Two hosts to the operator: one by its address, the other by its name. */
    const start = async (ofAlice: Partial<AllowedHosts>): Promise<Plugset> => {
      const entry = { user: 'ubuntu', keyFile: alice.clientKeyFile, knownHostsFile: alice.knownHostsFile };
      const started = await startPlugset({
        store: { kind: 'files' },
        config: {
          sshHosts: [
            { hosts: ['127.0.0.1'], firstContact: 'strict', ...entry, ...ofAlice },
            { hosts: ['localhost'], firstContact: 'tofu', user: 'ubuntu', keyFile: bob.clientKeyFile },
          ],
        },
      });
      plugset = started;
      await writePlugin(join(started.dirs.registry, 'one'), { 'SKILL.md': 'one\n' });
      return started;
    };
    const declare = async (name: 'alice' | 'bob', plugins: readonly string[]): Promise<void> => {
      const ssh = name === 'alice' ? { host: '127.0.0.1', port: alice.port } : { host: 'localhost', port: bob.port };
      const named = plugins.map((plugin) => ({ name: plugin, source: plugin }));
      const spec = { runtime: 'claude-code', target: { ssh }, plugins: named };
      const head = { apiVersion: 'plugset.dev/v1alpha1', kind: 'Workspace' } as const;
      await plugset?.app.store.apply({ ...head, metadata: { name }, spec }, AbortSignal.timeout(60_000));
    };
    const reasonOf = (status: WorkspaceStatus): string | undefined => findCondition(status.conditions, 'Ready')?.reason;

    /** What nobody may find in a log, a status or a metric: any line of a private key. */
    async function expectNoSecrets({ metricsUrl, logger, status }: Plugset): Promise<void> {
      const metrics = await (await fetch(`${await metricsUrl()}/metrics`)).text();
      expect(metrics).toMatch(/plugset_ssh_logins_total\{outcome="ok"\} [1-9]/);
      const said = JSON.stringify(
        [logger.lines, await status('alice'), await status('bob'), metrics],
        (_key, value: unknown) =>
          value instanceof Error ? [value.message, value.stack, value.cause, Object.entries(value)] : value,
      );
      for (const file of [alice.clientKeyFile, alice.strangerKeyFile, bob.clientKeyFile])
        for (const line of (await readFile(file, 'utf8')).split('\n').filter((one) => one !== ''))
          expect(said).not.toContain(line);
    }

    type Fault = () => Promise<unknown>;
    const remove = (path: string) => () => alice.machine.exec(['rm', '-r', path]);
    const asItIs = (): Partial<AllowedHosts> => ({});
    const nothing: Fault = async () => undefined;
    const FAULTS: readonly (readonly [string, string, Fault, () => Partial<AllowedHosts>])[] = [
      ['wrong host key', 'HostKeyMismatch', () => alice.changeHostKeys(), asItIs],
      ['a key that nobody knows', 'HostKeyUnknown', nothing, () => ({ knownHostsFile: undefined })],
      ['a user with another key', 'AuthenticationFailed', nothing, () => ({ keyFile: alice.strangerKeyFile })],
      ['a key file that is gone', 'AuthenticationFailed', nothing, () => ({ keyFile: '/no/such/key' })],
      ['refused sudo', 'SudoRefused', remove('/etc/sudoers.d/ubuntu'), asItIs],
      ['no sudo', 'ToolMissing', remove('/usr/bin/sudo'), asItIs],
      ['missing tools', 'ToolMissing', remove('/usr/bin/sha256sum'), asItIs],
      ['no config directory', 'ConfigDirMissing', remove('/configs'), asItIs],
      ['no server', 'Unreachable', () => alice.halt(), asItIs],
      ['a host that is frozen', 'Unreachable', () => alice.machine.freeze(), asItIs],
    ];
    it.each(FAULTS)(
      '%s has a reason of its own, %s, and holds up nobody else',
      async (_fault, reason, breakIt, allowed) => {
        const started = await start(allowed());
        await declare('bob', []);
        await started.untilReady('bob');
        await breakIt();
        await declare('alice', ['one']);
        await declare('bob', ['one']);
        await started.until('bob', (status) => expect(status).toMatchObject({ summary: '1/1' }));
        await eventually(async () => expect(reasonOf(await started.status('alice'))).toBe(reason), LOGIN_AND_MORE_MS);
        await declare('bob', []);
        await started.until('bob', (status) => expect(status).toMatchObject({ summary: '0/0' }));
        expect(reasonOf(await started.status('alice'))).toBe(reason);
        await expectNoSecrets(started);
      },
    );
  });
});

async function boot(): Promise<SshMachine> {
  const users = [
    { name: 'ubuntu', uid: 1000 },
    { name: 'agent', uid: AGENT, sudo: false },
  ];
  const machine = await SshMachine.boot({ users });
  await machine.machine.shell('mkdir /configs && chown 1500:1500 /configs');
  return machine;
}
