import { execFile } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { startClusterPlugset, type ClusterPlugset } from '../support/kube/cluster-plugset.ts';
import { proxiedNamespace, type ProxiedNamespace } from '../support/kube/proxied-namespace.ts';
import { installWorkspaceCrd } from '../support/kube/workspace-crd.ts';
import { tempDir } from '../support/temp-dir.ts';

/** The built program; `npm test` builds it. */
const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

await withBackend('kubernetes', (directory) => {
  describe('the command line in a cluster', () => {
    let place: ProxiedNamespace;
    let plugset: ClusterPlugset;
    let kubeconfig: string;
    let bin: string;
    const ends: (() => Promise<void>)[] = [];

    beforeEach(async () => {
      place = await proxiedNamespace(directory);
      ends.push(() => place.dispose());
      const { cluster, namespace } = place;
      await installWorkspaceCrd(cluster);
      bin = await tempDir();
      kubeconfig = join(bin, 'kubeconfig');
      await writeFile(kubeconfig, cluster.kubeconfig('admin', namespace));
      plugset = await startClusterPlugset({
        cluster,
        token: cluster.tokens.admin,
        stateNamespace: namespace,
        namespaces: [namespace],
        settings: ({ root }) => ({ targets: { directory: { roots: [{ path: root, namespaces: [namespace] }] } } }),
      });
      ends.push(() => plugset.stop());
      await plugset.release('one', 'one\n');
    });
    afterEach(async () => {
      vi.unstubAllEnvs();
      for (const end of ends.splice(0).toReversed()) await end();
    });

    /** As a person does on a machine of his own, who has not told plugset anything but where the cluster is. */
    async function run(...argv: readonly string[]): Promise<Ended> {
      const env = { PATH: process.env['PATH'], HOME: bin, PLUGSET_CACHE_DIR: join(bin, 'cache') };
      return new Promise((resolve) => {
        execFile(process.execPath, [MAIN, ...argv], { env }, (error, stdout, stderr) => {
          resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
        });
      });
    }

    async function apply(name: string, plugin = 'one', policy = {}): Promise<Ended> {
      const home = join(plugset.dirs.root, name);
      await mkdir(home, { recursive: true });
      const file = join(bin, `${name}.yaml`);
      const spec = {
        runtime: 'hermes',
        target: { directory: { path: home } },
        plugins: [{ name: 'one', source: plugin }],
        policy,
      };
      const manifest = { apiVersion: 'plugset.dev/v1alpha1', kind: 'Workspace', metadata: { name }, spec };
      await writeFile(file, JSON.stringify(manifest));
      return run('apply', '-f', file, '--kubeconfig', kubeconfig);
    }

    it('declares, asks for a pass and waits for it, shows and explains', async () => {
      const { namespace } = place;
      const here = ['--kubeconfig', kubeconfig];
      expect(await apply('alice')).toMatchObject({ code: 0, stdout: `workspace ${namespace}/alice created\n` });
      const waited = await run('reconcile', 'alice', '--wait', '--timeout', '2m', ...here);
      expect(waited).toMatchObject({ code: 0, stderr: '' });
      expect(waited.stdout).toContain(`workspace ${namespace}/alice is ready`);
      const shown = await run('status', ...here);
      expect(shown).toMatchObject({ code: 0, stderr: '' });
      expect(shown.stdout).toMatch(new RegExp(String.raw`^${namespace} +alice +True +Succeeded +1/1 `, 'm'));
      expect((await run('status', '-n', 'default', ...here)).stderr).toContain(
        'no workspaces are declared in namespace default',
      );
      expect((await run('status', '-A', ...here)).stdout).toMatch(/ alice +True/);
      const explained = await run('explain', 'alice', ...here);
      expect(explained).toMatchObject({ code: 0 });
      expect(explained.stdout).toContain('Nothing has to be done.');
      // With the configuration of the daemon, which says where targets and plugins are.
      const config = join(plugset.dirs.root, '../plugset.yaml');
      const plan = (name: string): Promise<Ended> => run('plan', name, '-n', namespace, '--config', config);
      expect(await plan('alice')).toMatchObject({
        code: 0,
        stdout: expect.stringMatching(/\nPlan: nothing to change in 1 workspace\n$/) as string,
      });
      await apply('bob', 'one', { mode: 'Plan' });
      expect(await plan('bob')).toMatchObject({
        code: 2,
        stdout: expect.stringMatching(
          new RegExp(
            String.raw`^${namespace}/bob \(directory .*\n +\+ install +one [^]*\n +waits \(AwaitingApproval\): 1 change;[^]*\nPlan: 1 to install, in 1 of 1 workspace\n$`,
          ),
        ) as string,
      });
      expect(await run('delete', 'alice', ...here)).toMatchObject({ code: 0 });
    });

    it('shows workspaces to whoever may see them and nothing else', async () => {
      const { cluster, namespace } = place;
      const grant = (kind: string, rest: object): Promise<unknown> =>
        cluster.call('POST', `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}/${kind.toLowerCase()}s`, {
          body: { apiVersion: 'rbac.authorization.k8s.io/v1', kind, metadata: { name: 'see' }, ...rest },
        });
      await grant('Role', {
        rules: [{ apiGroups: ['plugset.dev'], resources: ['workspaces'], verbs: ['list', 'watch'] }],
      });
      await grant('RoleBinding', {
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'see' },
        subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'bob' }],
      });
      await apply('alice');
      const bob = join(bin, 'bob.kubeconfig');
      await writeFile(bob, cluster.kubeconfig('bob', namespace));
      const shown = await run('status', '--kubeconfig', bob);
      expect(shown).toMatchObject({ code: 0, stderr: expect.stringContaining('you may not see') as string });
      expect(shown.stdout).toMatch(/ alice /);
      expect(await run('status', '-A', '--kubeconfig', bob)).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/cannot list resource "workspaces".*\(AccessDenied\)/) as string,
      });
    });

    it('looks at what the cluster lets plugset do', async () => {
      const { cluster, namespace } = place;
      const lookedAt = async (...argv: readonly string[]): Promise<string> =>
        (await run('doctor', '--state-namespace', namespace, ...argv)).stdout;
      const other = join(bin, 'alice.kubeconfig');
      await writeFile(other, cluster.kubeconfig('alice', namespace));
      // On a machine that is busy enough a check may be late, and says so.
      await eventually(async () => {
        const admin = await lookedAt('--kubeconfig', kubeconfig);
        expect(admin).toMatch(/Kubernetes v1\.\d+\.\d+.*; plugset is admin there/);
        expect(admin).toContain('this clock and that of the API server agree within 5 s');
        expect(admin).toContain('plugset may do all that it needs');
      });
      await eventually(async () => {
        const alice = await lookedAt('--kubeconfig', other);
        expect(alice).toContain(`get leases in ${namespace}`);
        expect(alice).toContain('patch workspaces/status everywhere');
      });
    });

    it('says what is wrong with what is declared there', async () => {
      await apply('alice');
      expect(await run('validate', '--kubeconfig', kubeconfig)).toMatchObject({
        code: 0,
        stdout: '1 workspace, no problems\n',
      });
      await place.cluster.kubectl([
        ...['patch', 'pws/alice', '-n', place.namespace, '--type=merge'],
        ...['-p', JSON.stringify({ spec: { runtime: 'nobody-knows' } })],
      ]);
      const { code, stdout } = await run('validate', '--kubeconfig', kubeconfig);
      expect(code).toBe(1);
      expect(stdout).toContain(`workspace ${place.namespace}/alice: spec.runtime: nobody-knows has no profile`);
    });

    it('is one of kubectl’s own, too', async () => {
      await apply('alice');
      // As npm installs it: a link of that name to the program.
      const link = join(bin, 'links');
      await mkdir(link);
      await symlink(MAIN, join(link, 'kubectl-plugset'));
      const program = join(bin, 'kubectl-plugset');
      await writeFile(program, `#!/bin/sh\nexec '${process.execPath}' '${link}/kubectl-plugset' "$@"\n`, {
        mode: 0o755,
      });
      vi.stubEnv('PATH', `${bin}:${process.env['PATH'] ?? ''}`);
      const { cluster, namespace } = place;
      await cluster.kubectl(['plugset', 'reconcile', 'alice', '-n', namespace, '--wait', '--timeout', '2m']);
      expect(await cluster.kubectl(['plugset', 'status', '-n', namespace, '-o', 'name'])).toBe('alice\n');
    });
  });
});
