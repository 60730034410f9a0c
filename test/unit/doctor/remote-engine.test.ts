import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { SystemClock } from '../../../src/adapters/system/clock.ts';
import type { AllowedHosts } from '../../../src/domain/access.ts';
import { diagnose } from '../../../src/doctor.ts';
import { withBackend } from '../../support/backend.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';
import { RemoteEngines } from '../../support/remote-engines.ts';

await withBackend('docker', async (docker) => {
  await withBackend('sshd', (sshd) => {
    describe('doctor, of an engine on another machine', () => {
      let remote: RemoteEngines;
      let dir: string;
      beforeAll(async () => {
        remote = await RemoteEngines.open(sshd);
        dir = await mkdtemp(join(tmpdir(), 'plugset-doctor-'));
        await mkdir(join(dir, 'workspaces'));
        await writeFile(
          join(dir, 'workspaces', 'alice.yaml'),
          'apiVersion: plugset.dev/v1alpha1\nkind: Workspace\nmetadata: {name: alice}\n' +
            'spec: {runtime: claude-code, target: {docker: {engine: two}}, plugins: []}\n',
        );
      });
      afterAll(async () => {
        await remote.close();
        await rm(dir, { recursive: true, force: true });
      });

      const seen = async (address: string, entry: AllowedHosts): Promise<readonly string[]> => {
        const targets = { docker: { engines: [{ name: 'two', address }] }, ssh: [{ ...entry, for: 'engines' }] };
        const config = join(dir, 'plugset.conf');
        await writeFile(config, JSON.stringify({ apiVersion: 'plugset.dev/v1alpha1', kind: 'Configuration', targets }));
        const findings = await diagnose({
          given: { config, files: join(dir, 'workspaces'), stateDir: join(dir, 'state'), cacheDir: join(dir, 'cache') },
          workspace: undefined,
          clock: new SystemClock(),
          logger: new RecordingLogger(),
          signal: AbortSignal.timeout(60_000),
        });
        return findings
          .filter(({ check }) => check === 'engine two')
          .map(({ result, seen: text }) => `${result} ${text}`);
      };

      it('looks at it the way that passes go', async () => {
        const { address } = remote.reach(docker);
        expect(await seen(address, remote.entry)).toEqual([
          expect.stringMatching(/^ok ssh:\/\/127\.0\.0\.1:\d+\/.*: Docker \S+, API 1\.\d+; \d+ containers? run/),
        ]);
      });

      it('says what is in the way', async () => {
        const { address } = remote.reach(docker);
        expect(await seen(address, { ...remote.entry, hosts: ['10.0.0.*'] })).toEqual([
          expect.stringMatching(/^FAIL .* does not answer \(no entry of targets\.ssh that is for engines has the host/),
        ]);
        expect(await seen(address.replace(/docker\.sock$/, 'other.sock'), remote.entry)).toEqual([
          expect.stringMatching(/^FAIL .* does not answer \(.*other\.sock on host root@.*AllowStreamLocalForwarding/),
        ]);
      });
    });
  });
});
