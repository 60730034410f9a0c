import { once, setMaxListeners } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, it, onTestFinished, vi } from 'vitest';
import { stringify } from 'yaml';

import { SystemClock } from '../../../src/adapters/system/clock.ts';
import { diagnose } from '../../../src/doctor.ts';
import { API_VERSION } from '../../../src/domain/workspace.ts';
import { withBackend } from '../../support/backend.ts';
import { eventually } from '../../support/eventually.ts';
import { Cluster } from '../../support/kube/cluster.ts';
import { createNamespace, removeNamespace } from '../../support/kube/namespace.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';
import { tempDir } from '../../support/temp-dir.ts';

const CHECKS = new Set(['API server', 'permissions', 'exec']);

await withBackend('kubernetes', (address) => {
  let cluster: Cluster;
  let namespace: string;
  beforeEach(async () => {
    vi.stubEnv('DATABASE_URL', '');
    cluster = await Cluster.at(address);
    namespace = await createNamespace(cluster);
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await removeNamespace(cluster, namespace);
  });

  /** What is found about a cluster of which `kubeconfig` tells, where workspaces are in `store`, else in files, and, with `pod`, may be pods. */
  async function look(kubeconfig: string, pod: object = {}, store?: object): Promise<readonly string[]> {
    const dir = await tempDir();
    for (const name of ['w', 'state']) await mkdir(join(dir, name));
    await writeFile(join(dir, 'kubeconfig'), kubeconfig, { mode: 0o600 });
    const config = join(dir, 'plugset.yaml');
    const kubernetes = { kubeconfig: join(dir, 'kubeconfig') };
    await writeFile(
      config,
      stringify({ apiVersion: API_VERSION, kind: 'Configuration', kubernetes, store, targets: { pod } }),
    );
    const { signal } = new AbortController();
    setMaxListeners(0, signal);
    const findings = await diagnose({
      given: {
        config,
        cacheDir: join(dir, 'cache'),
        ...(store === undefined && { files: join(dir, 'w'), stateDir: join(dir, 'state') }),
      },
      workspace: undefined,
      clock: new SystemClock(),
      logger: new RecordingLogger(),
      signal,
    });
    return findings
      .filter(({ check }) => CHECKS.has(check))
      .map(({ check, result, seen }) => `${check} ${result} ${seen.replaceAll(namespace, 'NS')}`);
  }

  /** Passes requests on as those of `admin`, and with them nothing but requests. Without TLS nobody tells it who asks. */
  async function gatewayWithoutUpgrades(): Promise<string> {
    const gateway = createServer((request, response) => {
      const { connection: _, upgrade: __, ...headers } = request.headers;
      headers.authorization = `Bearer ${cluster.tokens.admin}`;
      const { method, url = '' } = request;
      const passed = httpsRequest(new URL(url, cluster.server), { method, headers, ca: cluster.ca, agent: false });
      passed.once('response', (answer) => {
        response.writeHead(answer.statusCode ?? 0, answer.headers);
        answer.pipe(response);
      });
      request.pipe(passed);
    });
    gateway.listen(0, '127.0.0.1');
    await once(gateway, 'listening');
    onTestFinished(async () => {
      gateway.closeAllConnections();
      await new Promise((resolve) => gateway.close(resolve));
    });
    return `http://127.0.0.1:${(gateway.address() as AddressInfo).port}`;
  }

  it('doctor looks at the cluster of pods that are targets, wherever they are declared, and at none beside', async () => {
    const admin = cluster.kubeconfig('admin', namespace);
    expect(await look(admin)).toEqual([]);
    expect(await look(admin, { namespaces: [namespace] })).toEqual([
      expect.stringMatching(/^API server ok Kubernetes v1\..*; plugset is admin there$/),
      'API server ok this clock and that of the API server agree within 5 s',
      'permissions ok plugset may do all that it needs',
      expect.stringMatching(/^exec ok WebSockets get through to it; .* tries exec itself$/),
    ]);
  });

  it('and asks there for no more than what pods want', async () => {
    const findings = await look(cluster.kubeconfig('alice', namespace), { namespaces: [namespace] });
    expect(findings.slice(2)).toEqual([
      'permissions FAIL plugset may not list pods in NS, watch pods in NS, get pods/exec in NS, create pods/exec in NS: of no use for pods',
    ]);
  });

  it('and says of a store there what it is of no use for without the rest', async () => {
    const rbac = `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}`;
    const may = (apiGroups: readonly string[], ...resources: readonly string[]): object => ({
      apiGroups,
      resources,
      verbs: ['*'],
    });
    const rules = [
      may(['plugset.dev'], '*'),
      may(['', 'coordination.k8s.io'], 'configmaps', 'leases', 'pods'),
      may(['events.k8s.io'], 'events'),
    ];
    const role = { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'most' };
    const subjects = [{ apiGroup: role.apiGroup, kind: 'User', name: 'alice' }];
    await cluster.call('POST', `${rbac}/roles`, { body: { metadata: { name: 'most' }, rules } });
    await cluster.call('POST', `${rbac}/rolebindings`, {
      body: { metadata: { name: 'most' }, roleRef: role, subjects },
    });
    const store = { kubernetes: { namespaces: [namespace] } };
    await eventually(async () =>
      expect((await look(cluster.kubeconfig('alice', namespace), {}, store))[2]).toBe(
        'permissions warn plugset may not get pods/exec in NS, create pods/exec in NS: of no use for pods',
      ),
    );
  });

  it('and says that a gateway before it lets no WebSocket through', async () => {
    const gateway = await gatewayWithoutUpgrades();
    const kubeconfig = cluster
      .kubeconfig('admin', namespace)
      .replace('"cluster":{', '"cluster":{"insecure-skip-tls-verify":true,')
      .replace(cluster.server, gateway);
    const findings = await look(kubeconfig, { namespaces: [namespace] });
    expect(findings.slice(2)).toEqual([
      'permissions ok plugset may do all that it needs',
      'exec FAIL no WebSocket gets through to it (200), and exec in pods is one',
    ]);
  });
});
