import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { DEFAULT_EC2_ACCESS } from '../../src/domain/access.ts';
import { findCondition } from '../../src/domain/condition.ts';
import type { WorkspaceStatus } from '../../src/domain/status.ts';
import { FakeAws } from '../support/aws/fake-aws.ts';
import type { FakeInstance } from '../support/aws/fake-instance.ts';
import { expectNoSecrets } from '../support/aws/secrets.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

const AGENT = 1500;
const NAME_TAG = 'plugset.dev/workspace';
/** A login is given up after half a minute. */
const LOGIN_AND_MORE_MS = 60_000;
const BESIDE = { vpcId: 'vpc-2', subnetId: 'subnet-2' };

await withBackend('machine', () => {
  describe('what goes wrong with one EC2 workspace', () => {
    let aws: FakeAws;
    let plugset: Plugset;

    beforeEach(async () => {
      aws = await FakeAws.start();
      aws.createEndpoint(BESIDE);
      const { accessKeyId, secretAccessKey, sessionToken = '' } = aws.credentials;
      plugset = await startPlugset({
        store: { kind: 'files' },
        config: { ec2: { ...DEFAULT_EC2_ACCESS, regions: [{ name: aws.region }] } },
        parts: {
          aws: {
            credentials: { accessKeyId, secretAccessKey, sessionToken },
            endpoints: { ec2: aws.url, instanceConnect: aws.url },
            ca: aws.ca,
          },
        },
      });
      await writePlugin(join(plugset.dirs.registry, 'one'), { 'SKILL.md': 'one\n' });
    });
    afterEach(async () => {
      await plugset.stop();
      await aws.close();
    });

    const launch = (name: string, place: object = {}): Promise<FakeInstance> =>
      aws.launch({
        ...place,
        tags: { [NAME_TAG]: `default/${name}` },
        users: [
          { name: 'ubuntu', uid: 1000 },
          { name: 'agent', uid: AGENT, sudo: false },
        ],
        directories: { '/configs': AGENT },
      });
    const declare = async (name: string, ec2: object = {}, plugins: readonly string[] = ['one']): Promise<void> => {
      const metadata = { name };
      const named = plugins.map((plugin) => ({ name: plugin, source: plugin }));
      const spec = { runtime: 'claude-code', target: { ec2 }, plugins: named };
      const head = { apiVersion: 'plugset.dev/v1alpha1', kind: 'Workspace' } as const;
      await plugset.app.store.apply({ ...head, metadata, spec }, AbortSignal.timeout(60_000));
    };
    const ready = (status: WorkspaceStatus) => findCondition(status.conditions, 'Ready');
    const reasonOf = async (name: string): Promise<string | undefined> => ready(await plugset.status(name))?.reason;

    /** Nothing that was said anywhere may hold one. */
    async function expectNothingTold(): Promise<void> {
      const metrics = await (await fetch(`${await plugset.metricsUrl()}/metrics`)).text();
      const statuses = await Promise.all(['alice', 'bob'].map((name) => plugset.status(name)));
      expect(metrics).toMatch(/plugset_aws_requests_total\{.*outcome="ok"\} [1-9]/);
      expectNoSecrets(aws, plugset.logger.lines, statuses, metrics);
    }

    /** As AWS does that takes a signature for wrong: it tells what should have been signed, with the token in it. */
    const quote = (action: 'OpenTunnel' | 'SendSSHPublicKey'): void => {
      const { accessKeyId, sessionToken = '' } = aws.credentials;
      const signed = `X-Amz-Credential=${accessKeyId}&X-Amz-Security-Token=${encodeURIComponent(sessionToken)}`;
      const message = `The Canonical String for this request should have been\n'GET\n/openTunnel?${signed} ${sessionToken}'`;
      const code = action === 'OpenTunnel' ? 'SignatureDoesNotMatch' : 'InvalidSignatureException';
      aws.faults.fail(action, code, { status: 403, message });
    };
    /** A reason of a close has room for 123 bytes. */
    const closeQuoting = (): void => {
      const reason = `no way for ${(aws.credentials.sessionToken ?? '').slice(0, 100)}`;
      aws.tunnels.closeAtOnce = { code: 1011, reason };
    };

    /** From `throttled` on they are with everybody who has to log in: whoever is logged in goes on. */
    const FAULTS: readonly (readonly [string, string, (instance: FakeInstance) => unknown])[] = [
      ['wrong host key', 'HostKeyMismatch', ({ ssh }) => ssh.changeHostKeys()],
      ['expired key window', 'LoginKeyRefused', (instance) => Object.assign(instance, { clockAheadMs: 61_000 })],
      ['lost keys', 'LoginKeyRefused', (instance) => Object.assign(instance, { keysToLose: Infinity })],
      ['refused sudo', 'SudoRefused', ({ ssh }) => ssh.machine.exec(['rm', '/etc/sudoers.d/ubuntu'])],
      ['missing tools', 'ToolMissing', ({ ssh }) => ssh.machine.exec(['rm', '/usr/bin/sha256sum'])],
      ['a frozen instance', 'Unreachable', ({ ssh }) => ssh.machine.freeze()],
      ['instance stopping', 'WorkspaceNotRunning', (instance) => Object.assign(instance, { state: 'stopping' })],
      ['endpoint missing', 'EndpointMissing', () => aws.endpoints.splice(0, 1)],
      ['throttled', 'Throttled', () => aws.faults.throttle('SendSSHPublicKey')],
      ['access denied', 'AccessDenied', () => aws.faults.deny('OpenTunnel')],
      ['a refusal that quotes the request', 'AuthenticationFailed', () => quote('OpenTunnel')],
      ['an answer that quotes the request', 'AuthenticationFailed', () => quote('SendSSHPublicKey')],
      ['a close that quotes the request', 'Unreachable', () => closeQuoting()],
    ];
    it.each(FAULTS)('%s has a reason of its own, %s, and holds up nobody else', async (_fault, reason, breakIt) => {
      await launch('bob', BESIDE);
      await declare('bob', {}, []);
      await plugset.untilReady('bob');
      await breakIt(await launch('alice'));
      await declare('alice');
      await declare('bob');
      await plugset.until('bob', (status) => expect(status).toMatchObject({ summary: '1/1' }));
      await eventually(async () => expect(await reasonOf('alice')).toBe(reason), LOGIN_AND_MORE_MS);
      await declare('bob', {}, []);
      await plugset.until('bob', (status) => expect(status).toMatchObject({ summary: '0/0' }));
      expect(await reasonOf('alice')).toBe(reason);
      await expectNothingTold();
    });

    it.each(['is still known to AWS', 'is forgotten by AWS'])(
      'an instance that was terminated and %s is let go when the declaration names another',
      async (how) => {
        const old = await launch('alice');
        await declare('alice', { instanceId: old.id });
        await plugset.until('alice', (status) => expect(status).toMatchObject({ summary: '1/1' }));
        await old.terminate();
        if (how.includes('forgotten')) aws.forget(old);
        await plugset.until('alice', (status) => expect(ready(status)).toMatchObject({ reason: 'WorkspaceNotFound' }));
        const young = await launch('alice');
        await declare('alice', { instanceId: young.id });
        const { target, history } = await plugset.untilReady('alice');
        expect(target).toBe(`instance ${young.id} in ${aws.region}`);
        expect(history[0]?.summary).toContain('installed one');
        const { conditions, summary } = await plugset.requested('alice');
        expect(summary).toBe('1/1');
        expect(findCondition(conditions, 'LeftBehind')).toBeUndefined();
        expect(await readdir(`${young.root}/configs/plugins`)).toEqual(['one']);
      },
    );
  });
});
