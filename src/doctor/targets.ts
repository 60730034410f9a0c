import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';

import type { DockerVersion } from 'dockerode';

import type { ReachedEngine } from '../adapters/docker/docker-target-provider.ts';
import { DockerEngine } from '../adapters/docker/engine.ts';
import { engineDialer } from '../adapters/ssh/engine-dialer.ts';
import type { PooledSshHosts } from '../adapters/ssh/pooled-ssh-hosts.ts';
import type { App, LookResult, Preview } from '../app.ts';
import type { Config } from '../config.ts';
import { ADVICE } from '../domain/advice.ts';
import { isForAnybody } from '../domain/access.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { causeOf, codeOf } from '../domain/error-code.ts';
import { countOf } from '../domain/text.ts';
import type { Clock } from '../ports/clock.ts';
import type { PathTrace } from '../ports/path-trace.ts';
import { fail, failureOf, ok, warn, type Check, type Seen } from './check.ts';
import type { Declarations } from './declarations.ts';
import { user } from './files.ts';
import { PathRecord, walkTo } from './path.ts';

const REQUEST_TIMEOUT_MS = 5_000;
/** A look at one target with all its sources, which may have to be fetched. */
const TARGET_DEADLINE_MS = 180_000;

/** Whether engines and roots are there. */
export function placeChecks(
  config: Pick<Config, 'engines' | 'engineHosts' | 'roots' | 'containerRules'>,
  declarations: Promise<Declarations>,
  clock: Clock,
  sshHosts: Promise<PooledSshHosts>,
): readonly Check[] {
  const known = declarations.catch(() => undefined);
  return [
    ...config.engines.filter(isForAnybody).map((engine) => ({
      name: `engine ${engine.name}`,
      look: async (signal: AbortSignal) => {
        const hosts = engine.address.startsWith('ssh://') ? await sshHosts : undefined;
        const dialer = hosts && engineDialer(engine.address, config.engineHosts, hosts);
        return engineLook({ ...engine, dialer }, { known, clock, label: config.containerRules.label }, signal);
      },
    })),
    { name: 'containers', look: () => containersLook(config, known) },
    ...config.roots.map(({ path }) => ({ name: 'root', look: () => rootLook(path) })),
    { name: 'roots', look: () => missingRoots(config, known) },
  ];
}

interface Question {
  readonly known: Promise<Declarations | undefined>;
  readonly clock: Clock;
  /** Key of the label that says whose a container is. */
  readonly label: string;
}

async function engineLook(
  { name, address, dialer }: ReachedEngine,
  { known, clock, label }: Question,
  signal: AbortSignal,
): Promise<Seen> {
  const engine = new DockerEngine({ name, address, dialer, clock, requestTimeoutMs: REQUEST_TIMEOUT_MS });
  try {
    const version = await engine.ask(
      'ping',
      signal,
      (docker, abortSignal) => docker.version({ abortSignal } as never) as unknown as Promise<DockerVersion>,
    );
    const running = await engine.ask('list', signal, (docker, abortSignal) =>
      docker.listContainers({ abortSignal } as object),
    );
    const labelled = running.filter(({ Labels }) => label in Labels).length;
    const containers = `${countOf(running.length, 'container')} run, ${labelled} labelled ${label}`;
    return ok(`${address}: Docker ${version.Version}, API ${version.ApiVersion}; ${containers}`);
  } catch (error) {
    const used = (await known)?.engines;
    const failure = engine.classify('version', signal, error);
    const how = codeOf(error) ?? failure.message;
    if (used?.has(name) === false) return ok(`${address} does not answer (${how}), and no workspace is on it`);
    const tell = used === undefined ? warn : fail;
    return tell(
      `${address} does not answer (${how})`,
      dialer === undefined ? adviceOn(how, name, address) : ADVICE[failure.reason],
    );
  } finally {
    engine.close();
  }
}

function adviceOn(how: string, name: string, address: string): string {
  const socket = address.replace(/^unix:\/\//, '');
  switch (how) {
    case 'EACCES':
      return `Let ${user()} open ${socket}: add that user to the group that owns it (docker), and log in anew.`;
    case 'ENOENT':
      return `Start Docker, or say where it listens: --docker-host ${name === 'default' ? '' : `${name}=`}unix:///… or tcp://host:port.`;
    default:
      return 'Start the engine, or correct its address: targets.docker.engines (--docker-host).';
  }
}

/** Which engines are meant, and what makes a container a workspace's. */
async function containersLook(
  { engines, containerRules }: Pick<Config, 'engines' | 'containerRules'>,
  known: Promise<Declarations | undefined>,
): Promise<readonly Seen[]> {
  const named = (await known)?.engines ?? new Set<string>();
  if (named.size === 0) return [];
  const { label, namePrefix, trustIds, containers } = containerRules;
  const rule = trustIds
    ? `the label ${label}, or without it the name ${namePrefix} and 12 characters of spec.id`
    : `the label ${label} with NAMESPACE/NAME`;
  const byHand = containers.length === 0 ? '' : `; ${containers.length} by the configuration`;
  const missing = [...named].filter((name) => !engines.some((engine) => engine.name === name));
  if (missing.length === 0) return [ok(`proven by ${rule}${byHand}`)];
  const seen = `workspaces name engines that are not configured: ${missing.join(', ')}`;
  return [fail(seen, `Name them: --docker-host ${missing[0]}=unix:///… or tcp://host:port.`)];
}

async function rootLook(root: string): Promise<Seen> {
  try {
    const stats = await stat(root);
    if (!stats.isDirectory()) return fail(`${root} is no directory`, 'Correct targets.directory.roots (--root).');
    await access(root, constants.R_OK | constants.X_OK);
    const uid = process.getuid?.() ?? stats.uid;
    const owned = `${root} belongs to uid ${stats.uid}`;
    if (uid === 0 || uid === stats.uid) return ok(owned);
    return warn(
      `${owned}, and plugset runs as uid ${uid}`,
      'Run plugset as root or as the owner of the workspaces: it writes as the owner of each.',
    );
  } catch (error) {
    const fix =
      codeOf(error) === 'ENOENT'
        ? 'Make it, or correct --root.'
        : `Let ${user()} read it, or run plugset as its owner.`;
    return fail(`${root} cannot be looked into (${causeOf(error)})`, fix);
  }
}

async function missingRoots(
  { roots }: Pick<Config, 'roots'>,
  known: Promise<Declarations | undefined>,
): Promise<readonly Seen[]> {
  if (roots.length > 0 || (await known)?.hasDirectories !== true) return [];
  return [
    fail('workspaces are directories, and no root is allowed', 'Name the directory that holds them: --root DIR.'),
  ];
}

/** The way to one workspace, and a deep look as its next pass would make it: nothing is changed. */
export function targetCheck(key: WorkspaceKey, openApp: (trace: PathTrace) => Promise<App>, clock: Clock): Check {
  return {
    name: `workspace ${key}`,
    deadlineMs: TARGET_DEADLINE_MS,
    look: async (signal) => {
      const record = new PathRecord(clock);
      const app = await openApp(record);
      let seen: readonly Seen[] = [];
      try {
        const { isThere, failure } = await walkTo(key, app, { record, clock }, signal);
        if (isThere) await app.preview([key], signal, (_, result) => (seen = previewSeen(key, result)));
        else if (failure !== undefined) seen = [failure];
      } finally {
        await app.close();
      }
      await record.untilClosed(clock);
      return [...record.seen(), ...seen];
    },
  };
}

function previewSeen(key: WorkspaceKey, result: LookResult<Preview>): readonly Seen[] {
  switch (result.kind) {
    case 'failed':
      return [failureOf(result.error)];
    case 'absent':
      return [fail('it is not declared', '`plugset status` lists what is.')];
    case 'malformed':
      return [fail(result.problems.join('; '), ADVICE.InvalidSpec)];
    case 'unseen':
      return [ok(`nobody looks at it: ${result.why}`)];
    case 'planned':
      return plannedSeen(key, result);
  }
}

function plannedSeen(key: WorkspaceKey, { target, observation, planned }: Preview): readonly Seen[] {
  const { plan, hold, verdicts } = planned;
  const { odd, plugins } = observation;
  const present = plugins.filter((plugin) => plugin.present).length;
  const changes = plan.entries.length === 0 ? 'nothing to change' : `${countOf(plan.entries.length, 'change')} to make`;
  return [
    ok(`${target} was looked at: ${countOf(present, 'plugin')}; ${changes}`),
    ...(odd.length === 0
      ? []
      : [warn(`under plugins/, and no plugin: ${odd.join(', ')}`, 'Take it away, if it is not meant to be there.')]),
    ...(hold === undefined ? [] : [warn(hold.message, ADVICE[hold.reason])]),
    ...verdicts.flatMap(({ name, error }) =>
      error === undefined ? [] : [fail(`plugin ${name}: ${error.message} (${error.reason})`, ADVICE[error.reason])],
    ),
    ...(plan.entries.length === 0 ? [] : [ok(`\`plugset plan ${key}\` shows the changes`)]),
  ];
}
