import { randomBytes } from 'node:crypto';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test } from 'vitest';

import { Ec2TargetProvider } from '../../src/adapters/aws/ec2-target-provider.ts';
import { PooledSshHosts } from '../../src/adapters/ssh/pooled-ssh-hosts.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { DEFAULT_EC2_ACCESS, type Ec2Access } from '../../src/domain/access.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import { eventually } from '../support/eventually.ts';
import { MemoryControllerState } from '../support/memory-state.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';
import { workspaceAt } from '../support/workspaces.ts';

/*
 * What the stand-in is a stand-in for: an instance in an AWS account of yours, behind its Instance Connect endpoint. Only with
 * `npm run test:ec2`; README, "EC2 instances", says what it needs. It works in a directory of its own below /tmp.
 */

function given(name: string, fallback?: string): string {
  const value = process.env[name] ?? fallback;
  if (value === undefined) throw new Error(`set ${name}; README, "EC2 instances", says what this test needs`);
  return value;
}

const instanceId = given('PLUGSET_TEST_EC2_INSTANCE');
const access: Ec2Access = {
  ...DEFAULT_EC2_ACCESS,
  regions: [{ name: given('AWS_REGION') }],
  user: given('PLUGSET_TEST_EC2_USER', 'ubuntu'),
  rules: { ...DEFAULT_EC2_ACCESS.rules, instances: [{ workspace: 'default/alice', instanceId }] },
};
const configDir = `/tmp/plugset-${randomBytes(6).toString('hex')}`;
const profiles = BUILT_IN_PROFILES.map((profile) => ({ ...profile, configDir: { ec2: configDir } }));

const clock = new SystemClock();
const state = new MemoryControllerState();
const hosts = new PooledSshHosts({ state: () => state, clock });
const provider = new Ec2TargetProvider({ access, profiles, hosts, clock });

/** Past plugset: what a person would type on the instance. */
async function onInstance(...argv: readonly string[]): Promise<string> {
  const workspace = { ...workspaceAt({ ec2: { instanceId } }), key: 'default/alice' as never };
  const { signal } = new AbortController();
  const target = await provider.locate(workspace, signal);
  const result = await target.run(argv, { as: 'observer', deadlineMs: 60_000, signal });
  if (result.kind !== 'exited' || result.code !== 0) throw new Error(`${argv.join(' ')}: ${JSON.stringify(result)}`);
  return result.stdout.toString();
}

let plugset: Plugset | undefined;
beforeAll(async () => {
  await onInstance('mkdir', configDir);
});
afterAll(async () => {
  await plugset?.stop();
  await onInstance('rm', '-rf', configDir);
  await provider.close();
  await hosts.close();
});

test('installs, upgrades, heals and removes on a real instance', async () => {
  const started = await startPlugset({ store: { kind: 'files' }, config: { ec2: access, profiles } });
  plugset = started;
  const release = (version: string): Promise<void> =>
    writePlugin(join(started.dirs.registry, 'one'), {
      'plugin.yaml': `name: one\nversion: ${version}\n`,
      'bin/run': `#!/bin/sh\necho ${version}\n`,
    });
  const declare = (names: readonly string[]): Promise<unknown> =>
    started.app.store.apply(
      {
        apiVersion: 'plugset.dev/v1alpha1',
        kind: 'Workspace',
        metadata: { name: 'alice' },
        spec: {
          runtime: 'claude-code',
          target: { ec2: { instanceId } },
          plugins: names.map((name) => ({ name, source: name })),
        },
      },
      AbortSignal.timeout(10_000),
    );
  const run = `${configDir}/plugins/one/bin/run`;

  await release('1.0.0');
  await declare(['one']);
  await started.untilReady('alice');
  expect(await onInstance(run)).toBe('1.0.0\n');

  await release('2.0.0');
  await eventually(async () => expect(await onInstance(run)).toBe('2.0.0\n'));

  await onInstance('rm', run);
  await started.requested('alice');
  await started.untilReady('alice');
  expect(await onInstance(run)).toBe('2.0.0\n');

  await declare([]);
  await started.until('alice', (status) => expect(status.plugins).toEqual([]));
  expect(await onInstance('ls', `${configDir}/plugins`)).toBe('');
});
