import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

import { expect, it, onTestFinished } from 'vitest';

import { DirectoryTargetProvider } from '../../src/adapters/directory/directory-target-provider.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { DEFAULT_EC2_ACCESS } from '../../src/domain/access.ts';
import { transient } from '../../src/domain/errors.ts';
import { findCondition } from '../../src/domain/condition.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import type { WorkspaceStatus } from '../../src/domain/status.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import type { Workspace } from '../../src/domain/workspace.ts';
import type { Activator, RuntimeState, WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import { FakeAws } from '../support/aws/fake-aws.ts';
import { ALERT_RULES, ALERT_RULE_TESTS, alertRules } from '../support/alert-page.ts';
import { withBackend } from '../support/backend.ts';
import { CliInstallation, end } from '../support/cli-daemon.ts';
import { dashboardQueries, withVariables } from '../support/dashboard.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase } from '../support/fresh-database.ts';
import { GitHttp } from '../support/git-http.ts';
import { GitRepo } from '../support/git-repo.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { HollowEngine } from '../support/hollow-engine.ts';
import { startPlugset, writePlugin } from '../support/plugset.ts';
import { freePort } from '../support/free-port.ts';
import { startPrometheus, testRules, type TestPrometheus } from '../support/prometheus.ts';
import { tempDir } from '../support/temp-dir.ts';

const DEADLINE_MS = 180_000;
/** Of rates, in a test that has no hour. */
const WINDOW = '6s';
const THRESHOLDS: Readonly<Record<string, string>> = {
  '900': '3',
  '300': '1',
  '20': '0.5',
  '5': '0.3',
  '2': '0.5',
  '1': '0.5',
  '0': '0',
};

/** The same rules, so impatient that a fault of seconds is enough for them. */
function impatient(rules: string): string {
  return rules
    .replaceAll(/^( +for:) \w+$/gm, '$1 0s')
    .replaceAll('[2d]', '[1h]')
    .replaceAll(/\[(?:1h|15m|10m|5m)\]/g, `[${WINDOW}]`)
    .replaceAll(/> (\d+)$/gm, (_, threshold: string) => `> ${THRESHOLDS[threshold]}`);
}

/** Alerts that fire now, as `job: name`. */
async function firing(prometheus: TestPrometheus): Promise<ReadonlySet<string>> {
  return new Set((await prometheus.firing()).map(({ name, labels }) => `${labels['job']}: ${name}`));
}

/** Waits until each of these has fired; not all need to at the same time. */
async function untilFired(prometheus: TestPrometheus, wanted: readonly string[]): Promise<void> {
  const missing = new Set(wanted);
  await eventually(async () => {
    for (const alert of await firing(prometheus)) missing.delete(alert);
    expect([...missing], 'these alerts have not fired').toEqual([]);
  }, DEADLINE_MS);
}

/** Waits until these fire and no other. */
async function untilOnly(prometheus: TestPrometheus, wanted: readonly string[]): Promise<void> {
  await eventually(
    async () => expect([...(await firing(prometheus))].toSorted()).toEqual(wanted.toSorted()),
    DEADLINE_MS,
  );
}

/** What a daemon works on, and everything that can be broken in it from outside. */
interface Fleet {
  readonly installation: CliInstallation;
  readonly config: string;
  readonly files: string;
  readonly scratch: string;
  readonly registry: string;
  readonly forge: FaultProxy;
  readonly engine: HollowEngine;
  readonly webhook: Webhook;
  readonly repo: GitRepo;
  /** The directory of a workspace. */
  home(name: string): string;
  declare(name: string, spec?: object, labels?: Readonly<Record<string, string>>): Promise<void>;
  remove(...names: readonly string[]): Promise<void>;
}

/** Takes every message, or refuses it. */
class Webhook {
  refuses = false;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    server.on('request', (request, response) => {
      request.resume();
      response.writeHead(this.refuses ? 400 : 200, { connection: 'close' }).end();
    });
  }

  static async start(): Promise<Webhook> {
    return new Webhook(await listening(createServer()));
  }

  get url(): string {
    return `http://${addressOf(this.#server)}`;
  }

  stop(): Promise<void> {
    return closed(this.#server);
  }
}

async function listening(server: Server): Promise<Server> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

function addressOf(server: Server): string {
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
}

async function makeFleet(base: string): Promise<Fleet> {
  const at = (name: string): string => join(base, name);
  for (const dir of ['files', 'root', 'registry', 'git']) await mkdir(at(dir));
  for (const plugin of ['greeter', 'p1', 'p2', 'p3', 'p4', 'late'])
    await writePlugin(join(at('registry'), plugin), { 'SKILL.md': `${plugin}\n` });
  const repo = await GitRepo.create(join(at('git'), 'team/demo'));
  await repo.commit({ 'SKILL.md': 'one\n' });
  const forge = await FaultProxy.open((await GitHttp.start({ root: at('git') })).url, 'tcp');
  onTestFinished(() => forge.close());
  const [empty, engine] = [await HollowEngine.start('ws-absent'), await HollowEngine.start('ws-remote')];
  for (const one of [empty, engine]) onTestFinished(() => one.stop());
  const webhook = await Webhook.start();
  onTestFinished(() => webhook.stop());
  await writeFile(at('secret'), 'a secret of the test');
  const settings = {
    apiVersion: 'plugset.dev/v1alpha1',
    kind: 'Configuration',
    store: { files: at('files'), stateDirectory: at('state') },
    targets: {
      docker: {
        engines: [
          { name: 'empty', address: empty.address },
          { name: 'faulty', address: engine.address },
        ],
      },
      directory: { roots: [{ path: at('root') }] },
    },
    sources: {
      registries: [at('registry')],
      githubUrl: forge.address.replace('tcp:', 'http:'),
      allowLoopback: true,
      resolveInterval: '1s',
      cacheDirectory: at('cache'),
    },
    limits: { probeInterval: '1s', deepInterval: '1s', firstPassRate: 1000, grace: '5s' },
    telemetry: { workspaceMetrics: true },
    notifications: { webhook: { url: webhook.url, secretFile: at('secret') }, groupWindow: '0s' },
  };
  await writeFile(at('plugset.yaml'), JSON.stringify(settings));
  const installation = new CliInstallation(at('plugset.yaml'), base);
  onTestFinished(() => installation.stop());
  const file = (name: string): string => join(at('files'), `${name}.yaml`);
  return {
    installation,
    config: at('plugset.yaml'),
    files: at('files'),
    scratch: join(at('cache'), 'scratch'),
    registry: at('registry'),
    forge,
    engine,
    webhook,
    repo,
    home: (name) => join(at('root'), name),
    declare: async (name, spec = {}, labels = {}) => {
      const path = join(at('root'), name);
      await mkdir(path, { recursive: true });
      const whole = { runtime: 'claude-code', target: { directory: { path } }, plugins: plugins('greeter'), ...spec };
      const metadata = { name, labels };
      const text = JSON.stringify({ apiVersion: 'plugset.dev/v1alpha1', kind: 'Workspace', metadata, spec: whole });
      // Renamed into place, so that no look finds half of it.
      await writeFile(`${file(name)}.draft`, text);
      await rename(`${file(name)}.draft`, file(name));
    },
    remove: async (...names) => {
      for (const name of names) await rm(file(name));
    },
  };
}

function plugins(...sources: readonly string[]): readonly { readonly name: string; readonly source: string }[] {
  return sources.map((source) => ({ name: /\w+(?=#|$)/.exec(source)?.[0] ?? source, source }));
}

/** A runtime that can be restarted, unless it is made to resist that. */
class FaultyRuntime implements Activator {
  resists = false;
  losesAll = false;
  #startedAtMs = 0;

  async inspect(): Promise<RuntimeState> {
    const wouldLose = this.losesAll ? 'the test says so' : undefined;
    return { startedAtMs: this.#startedAtMs, isStarting: false, wouldLose };
  }

  async now(): Promise<number> {
    return Date.now();
  }

  async restart(): Promise<void> {
    if (this.resists) throw transient('RestartFailed', 'the test says so');
    this.#startedAtMs = Date.now();
  }
}

/** Directories with a runtime each, whose lookup can be made to hit a fault, or to hang. */
class FaultyDirectories extends DirectoryTargetProvider {
  readonly runtimes = { one: new FaultyRuntime(), two: new FaultyRuntime(), three: new FaultyRuntime() };
  fault: 'throws' | 'hangs' | undefined;

  override async locate(workspace: Workspace, signal: AbortSignal): Promise<WorkspaceTarget> {
    if (this.fault === 'throws') throw new TypeError('a fault that the test has built in');
    if (this.fault === 'hangs')
      await eventually(() => expect(this.fault === undefined || signal.aborted).toBe(true), 2 * DEADLINE_MS);
    const activator = this.runtimes[workspace.key.split('/')[1] as 'one' | 'two' | 'three'];
    return Object.assign(await super.locate(workspace, signal), { activator });
  }
}

/** One that can be set forward, as for a process that stood still. */
class MovedClock extends SystemClock {
  aheadMs = 0;

  override monotonic(): number {
    return super.monotonic() + this.aheadMs;
  }
}

interface FaultyDaemon {
  readonly directories: FaultyDirectories;
  readonly clock: MovedClock;
  /** Of the plugin that its workspaces have. */
  readonly repo: GitRepo;
  /** Undoes one and the same thing until plugset restarts nothing for it any more. */
  undo(): Promise<void>;
  /** Ends all faults of its own. */
  heal(): Promise<void>;
  /** Whether what it says of the repositories it follows is passed on, or replaced by 0. */
  followed: 'as is' | 'none';
  readonly address: string;
}

/** A daemon in this process, for faults of its own; scraped through a relay, for one that no switch of ours brings about. */
async function startFaultyDaemon(base: string): Promise<FaultyDaemon> {
  const clock = new MovedClock();
  const root = join(base, 'faulty');
  await mkdir(root);
  const path = process.env['PATH'] ?? '';
  const directories = new FaultyDirectories({ roots: [{ path: root }], path, clock });
  const plugset = await startPlugset({
    store: { kind: 'files' },
    config: {
      workers: 1,
      gitRoots: [base],
      profiles: BUILT_IN_PROFILES.map((profile) => ({ ...profile, bootMs: 0 })),
      activation: { quietMs: 0, patienceMs: 0, perHour: 100 },
    },
    parts: { clock, providers: [directories] },
  });
  onTestFinished(() => plugset.stop());
  const repo = await GitRepo.create(join(base, 'own'));
  await repo.commit({ 'SKILL.md': 'own\n' });
  for (const name of ['one', 'two', 'three']) {
    await mkdir(join(root, name));
    const spec = {
      runtime: 'claude-code',
      target: { directory: { path: join(root, name) } },
      plugins: [{ name: 'own', source: `git+file://${repo.bare}#main` }],
    };
    const manifest = { apiVersion: 'plugset.dev/v1alpha1', kind: 'Workspace', metadata: { name }, spec } as const;
    await plugset.app.store.apply(manifest, AbortSignal.timeout(60_000));
  }
  const url = `${await plugset.metricsUrl()}/metrics`;
  const relay = await listening(
    createServer((_request, response) => {
      void fetch(url, { headers: { connection: 'close' } })
        .then((answer) => answer.text())
        .then((text) =>
          response.end(
            daemon.followed === 'as is' ? text : text.replaceAll(/^(\w+_followed_\w+\{.*\}) \d+$/gm, '$1 0'),
          ),
        );
    }),
  );
  onTestFinished(() => closed(relay));
  const undo = async (): Promise<void> => {
    const activation = ({ conditions }: WorkspaceStatus): string | undefined =>
      findCondition(conditions, 'ActivationPending')?.reason;
    await plugset.untilReady('three');
    for (let round = 0; round < 4; round++) {
      await plugset.until('three', (status) => expect(activation(status)).toBeUndefined());
      // A look that finds everything there: what is gone later, no restart has lost.
      await plugset.requested('three');
      await writeFile(join(root, 'three/plugins/own/SKILL.md'), 'undone\n');
      await plugset.requested('three');
    }
    await plugset.until('three', (status) => expect(activation(status)).toBe('RestartRepeated'));
  };
  const heal = async (): Promise<void> => {
    Object.assign(directories.runtimes.one, { resists: false });
    Object.assign(directories.runtimes.two, { losesAll: false });
    daemon.followed = 'as is';
    clock.aheadMs = 0;
    directories.fault = undefined;
    // By themselves they are tried again minutes later, the longer they have failed the later.
    for (const name of ['one', 'two', 'three']) await plugset.requested(name);
  };
  const daemon: FaultyDaemon = { directories, clock, repo, undo, heal, followed: 'as is', address: addressOf(relay) };
  return daemon;
}

interface Cloud {
  readonly aws: FakeAws;
  /** Deletes one of its two workspaces, who have one tunnel between them. */
  relax(): Promise<void>;
  readonly address: string;
}

/** A daemon in this process whose workspaces are instances behind one Instance Connect endpoint. */
async function startCloud(): Promise<Cloud> {
  const aws = await FakeAws.start();
  onTestFinished(() => aws.close());
  const { accessKeyId, secretAccessKey, sessionToken = '' } = aws.credentials;
  const plugset = await startPlugset({
    store: { kind: 'files' },
    config: {
      ec2: { ...DEFAULT_EC2_ACCESS, regions: [{ name: aws.region }], tunnelsPerEndpoint: 1 },
      probeIntervalMs: 200,
      deepIntervalMs: 200,
    },
    parts: {
      aws: {
        credentials: { accessKeyId, secretAccessKey, sessionToken },
        endpoints: { ec2: aws.url, instanceConnect: aws.url },
        ca: aws.ca,
      },
    },
  });
  onTestFinished(() => plugset.stop());
  for (const name of ['east', 'west']) {
    await aws.launch({
      tags: { [DEFAULT_EC2_ACCESS.rules.tag]: `default/${name}` },
      users: [{ name: 'ubuntu', uid: 1000 }],
      directories: { '/configs': 1000 },
    });
    const spec = { runtime: 'claude-code', target: { ec2: {} }, plugins: [] };
    const manifest = { apiVersion: 'plugset.dev/v1alpha1', kind: 'Workspace', metadata: { name }, spec } as const;
    await plugset.app.store.apply(manifest, AbortSignal.timeout(60_000));
  }
  return {
    aws,
    relax: async () =>
      void (await plugset.app.store.delete(workspaceKey('default', 'west'), AbortSignal.timeout(60_000))),
    address: new URL(await plugset.metricsUrl()).host,
  };
}

/** Something of everything that a dashboard shows. */
async function tellStory(fleet: Fleet): Promise<void> {
  const git = 'github://team/demo#main';
  await fleet.declare('alice', { plugins: plugins('greeter', git) });
  await fleet.declare('bob', { plugins: plugins('p1', 'p2', 'p3', 'p4') });
  await fleet.declare('warned', { policy: { drift: 'Warn' } });
  await fleet.declare('planned', { policy: { mode: 'Plan' } });
  await fleet.declare('moved');
  await fleet.declare('wrong', { plugins: plugins('nosuch') });
  await fleet.declare('absent', { target: { docker: { engine: 'empty' } } });
  await fleet.declare('remote', { target: { docker: { engine: 'faulty' } } });
  const installed = (name: string, plugin: string): Promise<string> =>
    readFile(join(fleet.home(name), 'plugins', plugin, 'SKILL.md'), 'utf8');
  await eventually(async () => {
    expect(await installed('alice', 'demo')).toBe('one\n');
    expect(await installed('alice', 'greeter')).toBe('greeter\n');
    for (const plugin of ['p1', 'p2', 'p3', 'p4']) expect(await installed('bob', plugin)).toBe(`${plugin}\n`);
    for (const name of ['warned', 'moved']) expect(await installed(name, 'greeter')).toBe('greeter\n');
  }, DEADLINE_MS);
  // Seen a second time each, so that there are rates.
  await fleet.repo.commit({ 'SKILL.md': 'two\n' });
  await writePlugin(join(fleet.registry, 'greeter'), { 'SKILL.md': 'greeter, again\n' });
  await fleet.declare('bob', { plugins: [] });
  await eventually(async () => {
    expect(await installed('alice', 'demo')).toBe('two\n');
    for (const name of ['warned', 'moved']) expect(await installed(name, 'greeter')).toBe('greeter, again\n');
  }, DEADLINE_MS);
  await writeFile(join(fleet.home('warned'), 'plugins/greeter/SKILL.md'), 'edited\n');
  // Declared somewhere else while a link stands in its old place, so that nothing can be taken away there.
  await rename(join(fleet.home('moved'), 'plugins'), join(fleet.home('moved'), 'aside'));
  await symlink('aside', join(fleet.home('moved'), 'plugins'));
  await mkdir(fleet.home('moved-on'));
  await fleet.declare('moved', { target: { directory: { path: fleet.home('moved-on') } } });
}

/** Gives the old place of `moved` back as it was. */
async function clearOldPlace(fleet: Fleet): Promise<void> {
  await rm(join(fleet.home('moved'), 'plugins'));
  await rename(join(fleet.home('moved'), 'aside'), join(fleet.home('moved'), 'plugins'));
  await fleet.installation.command('reconcile', 'moved');
}

/** Edits an installed file and waits until that is undone. */
async function drift(fleet: Fleet): Promise<void> {
  const path = join(fleet.home('alice'), 'plugins/greeter/SKILL.md');
  await writeFile(path, 'edited\n');
  await eventually(async () => expect(await readFile(path, 'utf8')).toBe('greeter, again\n'), DEADLINE_MS);
}

await withBackend('prometheus', async (bin) => {
  it('the alert rules pass their own tests', async () => {
    await expect(testRules(bin, ALERT_RULE_TESTS)).resolves.toContain('SUCCESS');
  });

  await withBackend('machine', () => withBackend('postgres', (databaseUrl) => watchedFleet(bin, databaseUrl)));
});

function watchedFleet(bin: string, databaseUrl: string): void {
  it('every query of the dashboard is answered; every alert fires on its fault and falls silent after it', async () => {
    const base = await tempDir();
    const fleet = await makeFleet(base);
    const faulty = await startFaultyDaemon(base);
    const cloud = await startCloud();
    const database = await freshDatabase(databaseUrl);
    onTestFinished(() => database.drop());
    const onDatabase = await startPlugset({ store: { kind: 'postgres', url: database.url } });
    onTestFinished(() => onDatabase.stop());
    await mkdir(join(onDatabase.dirs.root, 'eve'));
    await database.sql(`insert into plugset.workspaces (name, runtime, target) values ('eve', 'claude-code', $1)`, [
      { directory: { path: join(onDatabase.dirs.root, 'eve') } },
    ]);
    const [first, second] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
    const prometheus = await startPrometheus({
      bin,
      dir: join(base, 'prometheus'),
      jobs: {
        plugset: [first, second],
        faulty: [faulty.address],
        cloud: [cloud.address],
        database: [new URL(await onDatabase.metricsUrl()).host],
      },
      rules: impatient(await readFile(ALERT_RULES, 'utf8')),
    });
    onTestFinished(() => prometheus.stop());
    const alerts = new Set((await alertRules()).map(({ alert }) => alert));
    const fires = async (job: string, ...names: readonly string[]): Promise<void> => {
      for (const name of names) alerts.delete(name);
      await untilFired(
        prometheus,
        names.map((name) => `${job}: ${name}`),
      );
    };

    // A leader, and a standby that no rule may take for one that knows nothing.
    const leader = fleet.installation.daemon(first);
    await eventually(
      async () =>
        expect(await prometheus.query(`leader_election_master_status{instance="${first}"} == 1`)).toHaveLength(1),
      DEADLINE_MS,
    );
    fleet.installation.daemon(second);

    await tellStory(fleet);
    const unanswered = new Map((await dashboardQueries()).map((query) => [query.expression, query.panel]));
    expect(unanswered.size).toBeGreaterThan(50);
    await eventually(async () => {
      for (const expression of unanswered.keys()) {
        const answer = await prometheus.query(withVariables(expression, WINDOW));
        if (answer.length > 0) unanswered.delete(expression);
      }
      expect([...unanswered], 'queries without an answer').toEqual([]);
    }, DEADLINE_MS);

    await fires('cloud', 'PlugsetTunnelsScarce');
    await cloud.relax();

    // What the story leaves behind, and nothing else.
    const left = ['WorkspacesStalled', 'WorkspacesAbsent', 'LeftBehind', 'PruneHeld', 'ApprovalWaiting'].map(
      (name) => `Plugset${name}`,
    );
    await fires('plugset', ...left);
    await untilOnly(
      prometheus,
      left.map((name) => `plugset: ${name}`),
    );

    // Faults from outside and inside, all at once: no alert hides another.
    fleet.engine.isBroken = true;
    fleet.forge.refuse();
    cloud.aws.faults.throttle('DescribeInstances');
    await rename(fleet.scratch, `${fleet.scratch}.away`);
    await fleet.declare('late', { plugins: plugins('late') });
    await rename(fleet.config, `${fleet.config}.good`);
    await writeFile(fleet.config, 'store: [');
    await writeFile(join(fleet.files, 'merge.yaml'), '<<<<<<< HEAD');
    await database.sql('alter table plugset.workspaces rename to away');
    fleet.webhook.refuses = true;
    // First: the longer it is refused, the rarer it is tried again, and rates here are of seconds.
    await fires('plugset', 'PlugsetNotificationsFailing');
    await faulty.undo();
    await fires('faulty', 'PlugsetRestartsRepeated');
    await faulty.directories.runtimes.three.restart();
    faulty.directories.runtimes.one.resists = true;
    faulty.directories.runtimes.two.losesAll = true;
    await faulty.repo.commit({ 'SKILL.md': 'own, again\n' });
    await fires('faulty', 'PlugsetRestartsFailing', 'PlugsetNotDurable');
    faulty.followed = 'none';
    faulty.clock.aheadMs = 3_000_000;
    faulty.directories.fault = 'throws';
    await drift(fleet);
    await fires('plugset', 'PlugsetDriftRepeats');
    await fires('faulty', 'PlugsetPanics', 'PlugsetSourcesNotFollowed', 'PlugsetLoopStalled');
    faulty.directories.fault = 'hangs';
    await fires(
      'plugset',
      'PlugsetEngineFailing',
      'PlugsetWorkspacesNotReady',
      'PlugsetSourceSilent',
      'PlugsetArtifactCacheFailing',
      'PlugsetConfigReloadFailed',
      'PlugsetDeclarationsUnreadable',
    );
    await fires('database', 'PlugsetStoreUnavailable');
    await fires('cloud', 'PlugsetAwsThrottled');
    await fires('faulty', 'PlugsetQueueStarving');

    fleet.engine.isBroken = false;
    fleet.forge.heal();
    cloud.aws.faults.heal();
    await rename(`${fleet.scratch}.away`, fleet.scratch);
    await rename(`${fleet.config}.good`, fleet.config);
    await rm(join(fleet.files, 'merge.yaml'));
    await database.sql('alter table plugset.away rename to workspaces');
    fleet.webhook.refuses = false;
    await faulty.heal();
    await fleet.declare('late', { plugins: plugins('late') }, { edited: 'yes' });
    await fleet.declare('bob', { plugins: plugins('p1', 'p2', 'p3', 'p4') });
    await fleet.declare('planned');
    await fleet.remove('wrong', 'absent', 'remote');
    await clearOldPlace(fleet);
    // The declaration of `late` is carried out by now, and has waited for all of the above.
    await fires('plugset', 'PlugsetConvergeSlow');
    await untilOnly(prometheus, []);

    await fleet.installation.command('pause');
    await fleet.declare('alice', { plugins: plugins('greeter') });
    await fires('plugset', 'PlugsetFleetPaused');
    await fleet.installation.command('resume');
    await untilOnly(prometheus, []);

    // The standby takes over; when it goes too, nobody leads in this job, whatever another one does.
    await end(leader, 'SIGKILL');
    await eventually(
      async () =>
        expect(await prometheus.query(`leader_election_master_status{instance="${second}"} == 1`)).toHaveLength(1),
      DEADLINE_MS,
    );
    await untilOnly(prometheus, []);
    await fleet.installation.stop();
    await fires('plugset', 'PlugsetNobodyLeads');
    fleet.installation.daemon(first);
    await untilOnly(prometheus, []);

    expect([...alerts], 'alerts that no fault of this test is for').toEqual([]);
  }, 1_800_000);
}
