import { setMaxListeners } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { SystemClock } from '../../src/adapters/system/clock.ts';
import { diagnose, type Finding } from '../../src/doctor.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import { FakeAws } from '../support/aws/fake-aws.ts';
import type { FakeInstance } from '../support/aws/fake-instance.ts';
import { expectNoSecrets } from '../support/aws/secrets.ts';
import { withBackend } from '../support/backend.ts';
import { SshMachine } from '../support/machine/ssh-machine.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { runInProcess } from '../support/run-cli.ts';
import { tempDir } from '../support/temp-dir.ts';

const AGENT = 1500;
const CHECK = 'workspace default/alice';
const USERS = [
  { name: 'ubuntu', uid: 1000 },
  { name: 'agent', uid: AGENT, sudo: false },
];

await withBackend('machine', () => {
  describe('doctor goes the way to a workspace', () => {
    let dir: string;
    let given: Record<string, unknown>;
    let aws: FakeAws;

    beforeEach(async () => {
      dir = await tempDir();
      await mkdir(join(dir, 'w'));
      vi.stubEnv('DATABASE_URL', '');
      vi.stubEnv('DOCKER_HOST', '');
      given = {
        stateDir: join(dir, 'state'),
        cacheDir: join(dir, 'cache'),
        listen: '127.0.0.1:1',
        files: join(dir, 'w'),
      };
      aws = await FakeAws.start();
    });
    afterEach(async () => {
      vi.unstubAllEnvs();
      await aws.close();
    });

    async function declare(target: object, targets: object): Promise<void> {
      const head = { apiVersion: 'plugset.dev/v1alpha1' };
      const workspace = {
        ...head,
        kind: 'Workspace',
        metadata: { name: 'alice' },
        spec: { runtime: 'claude-code', target, plugins: [] },
      };
      await writeFile(join(dir, 'w/alice.yaml'), JSON.stringify(workspace));
      const config = join(dir, 'plugset.yaml');
      await writeFile(config, JSON.stringify({ ...head, kind: 'Configuration', targets }));
      given = { ...given, config };
    }

    const look = (): Promise<readonly Finding[]> => {
      const { accessKeyId, secretAccessKey, sessionToken = '' } = aws.credentials;
      const { signal } = new AbortController();
      // As in main.ts: all checks wait for the signal of one command.
      setMaxListeners(0, signal);
      return diagnose({
        given,
        workspace: workspaceKey('default', 'alice'),
        clock: new SystemClock(),
        logger: new RecordingLogger(),
        signal,
        aws: {
          credentials: { accessKeyId, secretAccessKey, sessionToken },
          endpoints: { ec2: aws.url, instanceConnect: aws.url },
          ca: aws.ca,
        },
      });
    };
    const ofPath = (findings: readonly Finding[]): readonly Finding[] =>
      findings.filter(({ check, step }) => check === CHECK && step !== undefined);

    describe('on EC2', () => {
      const launch = async (): Promise<FakeInstance> => {
        const tags = { 'plugset.dev/workspace': 'default/alice' };
        const instance = await aws.launch({ tags, users: USERS, directories: { '/configs': AGENT } });
        await declare({ ec2: {} }, { ec2: { regions: [{ name: aws.region }] } });
        return instance;
      };

      /** Nothing that was printed, for people or for machines, may hold one. */
      function expectNothingTold(findings: readonly Finding[]): void {
        expectNoSecrets(aws, findings);
        expect(JSON.stringify(findings)).not.toContain('ssh-ed25519 AAAA');
      }

      it('and tells every step, how long it took and what AWS calls it', async () => {
        const { id, ssh } = await launch();
        const findings = await look();
        const steps = ofPath(findings);

        expect(steps.map(({ step }) => step)).toEqual([
          'credentials',
          'instance',
          'target',
          'console',
          'known keys',
          'endpoints',
          'endpoint',
          'slot',
          'tunnel',
          'connection',
          'key push',
          'login key',
          'host key',
          'login',
          'pin',
          'sudo',
          'tools',
          'config directory',
          'sudo',
          'owner',
          'tunnel closed',
        ]);
        const request = expect.stringMatching(/^[0-9a-f-]{36}$/) as string;
        const facts = (step: string): unknown => steps.find((one) => one.step === step)?.facts;
        expect(facts('credentials')).toMatchObject({ region: aws.region, kind: 'of a session' });
        expect(facts('instance')).toMatchObject({ request, found: `${id} (running)` });
        expect(facts('endpoint')).toMatchObject({
          endpoint: aws.endpoints[0]?.id,
          state: 'create-complete',
          because: 'it is in the subnet of the instance',
        });
        expect(facts('tunnel')).toMatchObject({ status: 101, request });
        expect(facts('key push')).toMatchObject({ request, user: 'ubuntu' });
        const { type, fingerprint } = ssh.hostKeys[0] ?? {};
        expect(facts('host key')).toEqual({ type, fingerprint, policy: 'console', verified: true, by: 'its console' });
        expect(facts('login')).toEqual({ user: 'ubuntu' });
        expect(facts('pin')).toEqual({
          host: id,
          key: `${type} ${fingerprint}`,
          verified: true,
          pinned: 'by the next pass, and not by this look',
        });
        await expect(readdir(join(dir, 'state/documents/hostkey'))).rejects.toThrow('ENOENT');
        expect(facts('sudo')).toMatchObject({ from: 'ubuntu', to: '0:0', by: 'sudo -n -u #0 --' });
        expect(facts('tools')).toMatchObject({ tar: '/usr/bin/tar', flock: '/usr/bin/flock' });
        expect(facts('config directory')).toEqual({ path: '/configs', owner: `${AGENT}:${AGENT}`, plugins: 0 });
        expect(facts('tunnel closed')).toMatchObject({ code: 1000 });
        for (const { result, ms } of steps) {
          expect(result).toBe('ok');
          expect(ms).toBeGreaterThanOrEqual(0);
        }
        expectNothingTold(findings);
      });

      /** What goes wrong, in which step, and what it is called. */
      const FAULTS: readonly (readonly [string, string, string, (instance: FakeInstance) => unknown])[] = [
        ['wrong host key', 'host key', 'HostKeyMismatch', ({ ssh }) => ssh.changeHostKeys()],
        ['expired key window', 'login', 'LoginKeyRefused', (instance) => Object.assign(instance, { keysToLose: 99 })],
        ['refused sudo', 'sudo', 'SudoRefused', ({ ssh }) => ssh.machine.exec(['rm', '/etc/sudoers.d/ubuntu'])],
        ['missing tools', 'tools', 'ToolMissing', ({ ssh }) => ssh.machine.exec(['rm', '/usr/bin/sha256sum'])],
        [
          'instance stopping',
          'target',
          'WorkspaceNotRunning',
          (instance) => Object.assign(instance, { state: 'stopping' }),
        ],
        ['endpoint missing', 'endpoint', 'EndpointMissing', () => aws.endpoints.splice(0)],
        ['throttled', 'key push', 'Throttled', () => aws.faults.throttle('SendSSHPublicKey')],
        ['access denied', 'tunnel', 'AccessDenied', () => aws.faults.deny('OpenTunnel')],
      ];
      it.each(FAULTS)('where it ends: %s', async (_fault, step, reason, breakIt) => {
        await breakIt(await launch());
        const findings = await look();
        const [failed, ...others] = ofPath(findings).filter(({ result }) => result === 'FAIL');
        expect(others).toEqual([]);
        expect(failed).toMatchObject({ step, seen: expect.stringContaining(`(${reason})`) as string });
        expect(failed?.fix).toMatch(/\w/);
        expectNothingTold(findings);
      });

      it('says what the endpoint says, unless that quotes the request', async () => {
        await launch();
        const tunnel = async (): Promise<unknown> => ofPath(await look()).find(({ step }) => step === 'tunnel')?.facts;
        aws.faults.fail('OpenTunnel', 'AccessDenied', { status: 403, message: 'User is not authorized' });
        expect(await tunnel()).toMatchObject({ status: 403, code: 'AccessDenied', message: 'User is not authorized' });
        const { sessionToken = '' } = aws.credentials;
        for (const quoted of [sessionToken, encodeURIComponent(sessionToken), `X-Amz-Credential=whoever`]) {
          const message = `The canonical request should have been ${quoted}`;
          aws.faults.fail('OpenTunnel', 'SignatureDoesNotMatch', { status: 403, message });
          expect(await tunnel()).toMatchObject({ message: 'withheld, since it quotes the signed request' });
        }
      });

      it('tells how a tunnel that AWS opened and could not use was closed', async () => {
        await launch();
        const closed = async (): Promise<unknown> => {
          const findings = await look();
          expectNothingTold(findings);
          return ofPath(findings).find(({ step }) => step === 'tunnel closed')?.facts;
        };
        aws.tunnels.closeAtOnce = { code: 1011, reason: 'Unable to connect to target' };
        expect(await closed()).toEqual({ code: 1011, reason: 'Unable to connect to target' });
        aws.tunnels.closeAtOnce = { code: 1011, reason: 'of X-Amz-Signature=5ec12e7' };
        expect(await closed()).toEqual({ code: 1011, reason: 'withheld, since it quotes the signed request' });
      });

      it('prints it as a table and as JSON, and fails with it', async () => {
        await launch();
        aws.endpoints.length = 0;
        const seen = await look();
        const table = await runInProcess(['doctor', 'alice'], { diagnose: async () => seen });
        expect(table.code).toBe(1);
        expect(table.stdout).toMatch(
          /^- endpoint +FAIL +instance i-\w+: no Instance Connect endpoint can be used.*\(\d+ ms\)$/m,
        );
        expect(table.stdout).toMatch(/^workspace default\/alice\n- credentials +ok /m);
        expect(table.stdout).toMatch(/^ +-> Make an EC2 Instance Connect endpoint/m);
        const json = await runInProcess(['doctor', 'alice', '-o', 'json'], { diagnose: async () => seen });
        expect(JSON.parse(json.stdout)).toMatchObject({
          ok: false,
          checks: expect.arrayContaining([
            expect.objectContaining({ check: CHECK, step: 'endpoint', facts: { vpc: 'vpc-1', subnet: 'subnet-1' } }),
          ]) as unknown,
        });
      });
    });

    it('on a host', async () => {
      const machine = await SshMachine.boot({ users: USERS });
      try {
        await machine.machine.exec(['install', '-d', '-o', `${AGENT}`, '-g', `${AGENT}`, '/configs']);
        const { host, port, clientKeyFile, knownHostsFile } = machine;
        const entry = { hosts: [host], keyFile: clientKeyFile, knownHostsFile };
        await declare({ ssh: { host, port, user: 'ubuntu' } }, { ssh: [entry] });
        const steps = ofPath(await look());
        expect(steps.map(({ step, result }) => `${step} ${result}`)).toEqual([
          'known keys ok',
          'connection ok',
          'login key ok',
          'host key ok',
          'login ok',
          'pin ok',
          'target ok',
          'sudo ok',
          'tools ok',
          'config directory ok',
          'sudo ok',
          'owner ok',
        ]);
        expect(steps.find(({ step }) => step === 'login key')?.facts).toEqual({ from: clientKeyFile });
        expect(steps.find(({ step }) => step === 'host key')?.facts).toMatchObject({
          verified: true,
          by: knownHostsFile,
        });
      } finally {
        await machine.close();
      }
    });

    it('in a directory', async () => {
      const path = join(dir, 'root/alice');
      await mkdir(path, { recursive: true });
      await declare({ directory: { path } }, { directory: { roots: [{ path: join(dir, 'root') }] } });
      const steps = ofPath(await look());
      expect(steps.map(({ step, result }) => `${step} ${result}`)).toEqual([
        'target ok',
        'tools ok',
        'config directory ok',
        'owner ok',
      ]);
    });
  });
});
