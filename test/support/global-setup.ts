import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestProject } from 'vitest/node';
import type { Backend, BackendAnswer, BackendName, RunningBackend } from './backend.ts';

/** Answers another back end, which is started if nobody has asked for it yet. */
type Ask = (name: BackendName) => Promise<Backend>;

/** Loaded only when asked for, so that a run of unit tests pays for none of them. */
const starters: Readonly<Record<BackendName, (ask: Ask) => Promise<Backend>>> = {
  compose: async () => (await import('./compose.ts')).findCompose(),
  disk: async () => (await import('./small-disk.ts')).findMount(),
  docker: async () => (await import('./docker.ts')).startDocker(),
  dockerd: async () => (await import('./docker.ts')).findDockerd(),
  'kube-apiserver': async () =>
    (await import('./kube/programs.ts')).findKubePrograms('etcd', 'kube-apiserver', 'kubectl'),
  // After the programs of the control plane: two builds at once would each take twice as long.
  kubelet: async (ask) => {
    const programs = await ask('kube-apiserver');
    return 'missing' in programs ? programs : (await import('./kube/node.ts')).findKubelet();
  },
  kubernetes: async (ask) => {
    const programs = await ask('kube-apiserver');
    return 'missing' in programs
      ? programs
      : (await import('./kube/control-plane.ts')).startKubernetes(programs.address);
  },
  machine: async () => (await import('./machine/ssh-machine.ts')).findMachine(),
  node: async (ask) => {
    const kubelet = await ask('kubelet');
    if ('missing' in kubelet) return kubelet;
    const cluster = await ask('kubernetes');
    return 'missing' in cluster
      ? cluster
      : (await import('./kube/node.ts')).startNode(cluster.address, kubelet.address);
  },
  postgres: async () => (await import('./postgres.ts')).startPostgres(),
  prometheus: async () => (await import('./prometheus.ts')).findPrometheus(),
  sshd: async () => (await import('./sshd.ts')).startSshd(),
};

/**
 * Owns the real back ends of one test run. Test files run in processes of their own and ask over loopback HTTP
 * (`backend.ts`), so each back end is started once, by the first file that needs it, and lives until the run ends.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const backends = new Backends(project);
  const server = createServer((request, response) => {
    // Without it the kept-alive socket would show up in the leak checks of the tests.
    response.setHeader('connection', 'close');
    backends.answer((request.url ?? '').slice(1)).then(
      (answer) => response.end(JSON.stringify(answer)),
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
  });
  project.provide('backendsUrl', await listen(server));
  const endNow = (): void => backends.endNow();
  process.once('exit', endNow);
  return async () => {
    server.close();
    await backends.stop();
    process.off('exit', endNow);
  };
}

class Backends {
  readonly #started = new Map<BackendName, Promise<Backend>>();
  readonly #running: RunningBackend[] = [];
  readonly #project: TestProject;

  constructor(project: TestProject) {
    this.#project = project;
  }

  async answer(name: string): Promise<BackendAnswer> {
    if (!isBackendName(name)) throw new Error(`no back end is called ${JSON.stringify(name)}`);
    if (this.#project.vite.config.mode === 'fakes')
      return { missing: 'left out of this run; npm test has it', required: false };
    const found = await this.#ask(name);
    return 'missing' in found
      ? { missing: found.missing, required: process.env['CI'] === 'true' }
      : { address: found.address };
  }

  async stop(): Promise<void> {
    await Promise.allSettled(this.#started.values());
    const results = await Promise.allSettled(this.#running.splice(0).map((backend) => backend.stop()));
    const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
    if (failures.length > 0) throw new AggregateError(failures, 'a back end could not be stopped');
  }

  /** The run is dying without a teardown (Ctrl-C, a crash of the runner): only synchronous calls are left. */
  endNow(): void {
    for (const { pid } of this.#running) {
      if (pid === undefined) continue;
      try {
        process.kill(pid, 'SIGTERM');
      } catch {
        // It has ended by itself.
      }
    }
  }

  readonly #ask: Ask = async (name) => {
    let backend = this.#started.get(name);
    if (backend === undefined) this.#started.set(name, (backend = this.#start(name)));
    return backend;
  };

  async #start(name: BackendName): Promise<Backend> {
    const backend = await starters[name](this.#ask);
    const missing = 'missing' in backend;
    if (!missing) this.#running.push(backend);
    this.#project.vitest.logger.log(
      missing ? `${name}: missing, its tests are skipped: ${backend.missing}` : `${name}: ${backend.how}`,
    );
    return backend;
  }
}

function isBackendName(name: string): name is BackendName {
  return Object.hasOwn(starters, name);
}

function listen(server: Server): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`));
  });
}
