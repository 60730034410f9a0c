import { setMaxListeners } from 'node:events';
import { chown, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { SystemClock } from '../../../src/adapters/system/clock.ts';
import { diagnose, type Finding } from '../../../src/doctor.ts';
import { workspaceKey } from '../../../src/domain/name.ts';
import { withBackend } from '../../support/backend.ts';
import { TestContainers } from '../../support/docker-containers.ts';
import { createNamespace, removeNamespace } from '../../support/kube/namespace.ts';
import { nodeAt } from '../../support/kube/node.ts';
import { startPod, type PodOptions } from '../../support/kube/pod.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';

const LABEL = 'plugset.dev/workspace';
const isRoot = process.getuid?.() === 0;

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'plugset-walk-'));
  await mkdir(join(dir, 'workspaces'));
  await mkdir(join(dir, 'root'));
  vi.stubEnv('DATABASE_URL', '');
  vi.stubEnv('DOCKER_HOST', '');
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(dir, { recursive: true });
});

/** What a look at the one workspace there is comes to. */
async function walk(
  target: object,
  targets: object,
  { namespace = 'default', settings = {} }: { readonly namespace?: string; readonly settings?: object } = {},
): Promise<readonly Finding[]> {
  const head = { apiVersion: 'plugset.dev/v1alpha1' };
  const spec = { runtime: 'claude-code', target, plugins: [] };
  const workspace = { ...head, kind: 'Workspace', metadata: { name: 'alice', namespace }, spec };
  await writeFile(join(dir, 'workspaces/alice.yaml'), JSON.stringify(workspace));
  const config = join(dir, 'plugset.yaml');
  await writeFile(config, JSON.stringify({ ...head, kind: 'Configuration', targets, ...settings }));
  const { signal } = new AbortController();
  // As in main.ts: all checks wait for the signal of one command.
  setMaxListeners(0, signal);
  const findings = await diagnose({
    given: { config, files: join(dir, 'workspaces'), stateDir: join(dir, 'state'), cacheDir: join(dir, 'cache') },
    workspace: workspaceKey(namespace, 'alice'),
    clock: new SystemClock(),
    logger: new RecordingLogger(),
    signal,
  });
  return findings.filter(({ check }) => check === `workspace ${namespace}/alice`);
}

/** The steps that were told, and of the one that failed what it is called. */
function told(findings: readonly Finding[]): readonly string[] {
  return findings.flatMap(({ step, result, seen }) => {
    if (step === undefined) return [];
    return result === 'ok' ? [step] : [`${step} ${result} ${/\((\w+)\)(?=;|$)/.exec(seen)?.[1]}`];
  });
}

const WHOLE_WAY = ['target', 'tools', 'config directory', 'owner'];

describe('doctor goes the way to a directory', () => {
  const path = (): string => join(dir, 'root/alice');
  const walkThere = (): Promise<readonly Finding[]> =>
    walk({ directory: { path: path() } }, { directory: { roots: [{ path: join(dir, 'root') }] } });

  it('and tells what it found at its end', async () => {
    await mkdir(path());
    const findings = await walkThere();
    expect(told(findings)).toEqual(WHOLE_WAY);
    const facts = Object.fromEntries(findings.map(({ step, facts: seen }) => [step, seen]));
    const owner = `${process.getuid?.()}:${process.getgid?.()}`;
    expect(facts['target']).toEqual({ target: `directory ${path()}` });
    expect(facts['tools']).toMatchObject({ tar: expect.stringMatching(/\/tar$/) as string });
    expect(facts['config directory']).toEqual({ path: '.', owner, plugins: 0 });
    expect(facts['owner']).toEqual({ as: owner });
    expect(findings.at(-1)?.seen).toBe(`directory ${path()} was looked at: 0 plugins; nothing to change`);
  });

  it.each<readonly [string, string, () => Promise<unknown>]>([
    ['it is not there', 'WorkspaceNotFound', async () => undefined],
    ['it is a file', 'UnsafePath', () => writeFile(path(), '')],
    ['it is a link out of its root', 'UnsafePath', () => symlink(tmpdir(), path())],
  ])('and says where it ends: %s', async (_what, reason, make) => {
    await make();
    const findings = await walkThere();
    expect(told(findings)).toEqual([`target FAIL ${reason}`]);
    expect(findings[0]?.fix).toMatch(/\w/);
  });

  it('and refuses one outside every root before it looks at it', async () => {
    const findings = await walk({ directory: { path: dir } }, { directory: { roots: [{ path: join(dir, 'root') }] } });
    expect(told(findings)).toEqual(['target FAIL TargetNotAllowed']);
  });

  it.runIf(isRoot)('and writes as whom it belongs to', async () => {
    await mkdir(path());
    await chown(path(), 1500, 1500);
    const owner = (await walkThere()).find(({ step }) => step === 'owner');
    expect(owner?.facts).toEqual({ as: '1500:1500' });
  });
});

await withBackend('docker', (address) => {
  describe('doctor goes the way to a container', () => {
    const containers = new TestContainers(address);
    afterEach(() => containers.removeAll());
    const walkThere = (): Promise<readonly Finding[]> =>
      walk({ docker: {} }, { docker: { engines: [{ name: 'default', address }] } });
    const labels = { [LABEL]: 'default/alice' };

    it('and tells what it found at its end', async () => {
      const container = await containers.create({ labels });
      await containers.exec(container, ['mkdir', '-p', '/configs']);
      await containers.exec(container, ['chown', '1500:1500', '/configs']);
      const findings = await walkThere();
      expect(told(findings)).toEqual(WHOLE_WAY);
      const facts = Object.fromEntries(findings.map(({ step, facts: seen }) => [step, seen]));
      expect(facts['target']).toEqual({ target: expect.stringMatching(/^container .* on engine default$/) as string });
      // Its shell has them in itself.
      expect(facts['tools']).toMatchObject({ sha256sum: 'sha256sum', tar: 'tar' });
      expect(facts['config directory']).toEqual({ path: '/configs', owner: '1500:1500', plugins: 0 });
      expect(facts['owner']).toEqual({ as: '1500:1500' });
    });

    it('and says that there is none', async () => {
      expect(told(await walkThere())).toEqual(['target FAIL WorkspaceNotFound']);
    });

    it('and says that it does not run', async () => {
      await containers.create({ labels, start: false });
      expect(told(await walkThere())).toEqual(['target FAIL WorkspaceNotRunning']);
    });

    it('and says what it lacks', async () => {
      const container = await containers.create({ labels, image: 'debian' });
      await containers.exec(container, ['rm', '/bin/sha256sum', '/bin/tar']);
      const findings = await walkThere();
      expect(told(findings)).toEqual(['target', 'tools FAIL ToolMissing']);
      expect(findings[1]?.seen).toMatch(/ lacks sha256sum, tar /);
    });

    it('and says that its config directory is not there', async () => {
      const container = await containers.create({ labels });
      await containers.exec(container, ['rm', '-rf', '/configs']);
      expect(told(await walkThere())).toEqual(['target', 'tools', 'config directory FAIL ConfigDirMissing']);
    });
  });
});

await withBackend('node', async (address) => {
  const node = await nodeAt(address);
  const { cluster } = node;

  describe('doctor goes the way to a pod', () => {
    const labels = { [LABEL]: 'alice' };
    let namespace: string;
    beforeEach(async () => {
      namespace = await createNamespace(cluster);
    });
    afterEach(() => removeNamespace(cluster, namespace));

    const walkThere = async (who: 'admin' | 'alice' = 'admin', pod = {}): Promise<readonly Finding[]> => {
      const kubeconfig = join(dir, 'kubeconfig');
      await writeFile(kubeconfig, cluster.kubeconfig(who, namespace), { mode: 0o600 });
      const targets = { pod: { namespaces: [namespace], ...pod } };
      return walk({ pod: {} }, targets, { namespace, settings: { kubernetes: { kubeconfig } } });
    };
    const start = (options: Partial<PodOptions> = {}): Promise<void> =>
      startPod(node, { name: 'agent', namespace, labels, ...options });
    const inPod = (...argv: readonly string[]): Promise<string> =>
      cluster.kubectl(['-n', namespace, 'exec', 'agent', '--', ...argv]);
    /** Lets alice do this to pods of the namespace, and no more. */
    const grant = async (...verbs: readonly string[]): Promise<void> => {
      const group = 'rbac.authorization.k8s.io';
      const make = (kind: string, rest: object): Promise<unknown> =>
        cluster.call('POST', `/apis/${group}/v1/namespaces/${namespace}/${kind.toLowerCase()}s`, {
          body: { apiVersion: `${group}/v1`, kind, metadata: { name: 'see' }, ...rest },
        });
      await make('Role', { rules: [{ apiGroups: [''], resources: ['pods'], verbs }] });
      await make('RoleBinding', {
        roleRef: { apiGroup: group, kind: 'Role', name: 'see' },
        subjects: [{ apiGroup: group, kind: 'User', name: 'alice' }],
      });
    };
    /** What was found at the step that failed, and what a person does about it. */
    const failureIn = (findings: readonly Finding[]): { readonly seen: string; readonly fix: string } => {
      const { seen = '', fix = '' } = findings.find(({ result }) => result === 'FAIL') ?? {};
      return { seen: seen.replaceAll(namespace, 'NS'), fix };
    };

    it('and tells what it found at its end', async () => {
      await start();
      await inPod('chown', '1000:1000', '/configs');
      const findings = await walkThere();
      expect(told(findings)).toEqual(WHOLE_WAY);
      const facts = Object.fromEntries(findings.map(({ step, facts: seen }) => [step, seen]));
      const container = `container main of pod ${namespace}/agent`;
      expect(facts['target']).toEqual({ target: container });
      expect(facts['tools']).toMatchObject({ sha256sum: 'sha256sum', tar: 'tar' });
      expect(facts['config directory']).toEqual({ path: '/configs', owner: '1000:1000', plugins: 0 });
      expect(facts['owner']).toEqual({ as: '1000:1000' });
      expect(findings.at(-1)?.seen).toBe(`${container} was looked at: 0 plugins; nothing to change`);
    });

    it('and says that there is none, and by what it was looked for', async () => {
      const findings = await walkThere();
      expect(told(findings)).toEqual(['target FAIL WorkspaceNotFound']);
      const { seen, fix } = failureIn(findings);
      expect(seen).toContain(`namespace NS has no pod labelled ${LABEL}=alice for workspace NS/alice;`);
      expect(fix).toContain('Start the workspace');
    });

    it('and says that there is no shell in it', async () => {
      await start();
      await inPod('rm', '/bin/sh');
      const findings = await walkThere();
      expect(told(findings)).toEqual(['target', 'tools FAIL ToolMissing']);
      const { seen, fix } = failureIn(findings);
      expect(seen).toContain('container main of pod NS/agent: no /bin/sh could be started there');
      expect(fix).toContain('in its image');
    });

    it('and says what its image lacks for writing as the owner', async () => {
      await start();
      // Nobody whom its su knows.
      await inPod('chown', '1500:1500', '/configs');
      const findings = await walkThere();
      expect(told(findings)).toEqual(['target', 'tools', 'config directory', 'owner FAIL PermissionDenied']);
      const { seen, fix } = failureIn(findings);
      expect(seen).toMatch(
        /belong to 1500:1500, and what runs there as 0:0 cannot become that; its image has none of /,
      );
      expect(fix).toMatch(/^Where the message says what to do, do that/);
    });

    it('and says that plugset may see its pod and run nothing in it', async () => {
      await start();
      await grant('list', 'watch');
      const findings = await walkThere('alice');
      expect(told(findings)).toEqual(['target', 'tools FAIL AccessDenied']);
      const { seen, fix } = failureIn(findings);
      expect(seen).toContain('it needs the verbs get and create on pods/exec');
      expect(fix).toContain('its role in the cluster');
    });

    it('and says that plugset may not see the pods there', async () => {
      const findings = await walkThere('alice');
      expect(told(findings)).toEqual(['target FAIL AccessDenied']);
      expect(failureIn(findings).seen).toContain('cannot list resource "pods"');
    });

    it('and asks for no pod where its namespace may have none', async () => {
      await start();
      const findings = await walkThere('admin', { namespaces: ['elsewhere'] });
      expect(told(findings)).toEqual(['target FAIL TargetNotAllowed']);
      const { seen, fix } = failureIn(findings);
      expect(seen).toMatch(
        /^workspaces of namespace NS, such as NS\/alice, may be no pods; .*targets\.pod\.namespaces/,
      );
      expect(fix).toContain('below targets in the configuration');
    });
  });
});
