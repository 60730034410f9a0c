import { PooledSshHosts } from './adapters/ssh/pooled-ssh-hosts.ts';
import { ConfigError, configOf, gatherSettings, type Config, type Gathered } from './config.ts';
import { transient } from './domain/errors.ts';
import type { WorkspaceKey } from './domain/name.ts';
import { settlesWithin } from './ports/abort.ts';
import type { Clock } from './ports/clock.ts';
import type { Logger } from './ports/logger.ts';
import type { PathTrace } from './ports/path-trace.ts';
import { fail, runChecks, type Check, type Finding, type Seen } from './doctor/check.ts';
import { clusterChecks } from './doctor/cluster.ts';
import { readDeclarations } from './doctor/declarations.ts';
import { ec2Checks, type Ec2CheckOptions } from './doctor/ec2.ts';
import { namespaceCheck } from './doctor/namespaces.ts';
import { sourceChecks } from './doctor/sources.ts';
import { sshChecks } from './doctor/ssh.ts';
import { storeChecks } from './doctor/store.ts';
import { configurationSeen, machineChecks, outsideChecks } from './doctor/surroundings.ts';
import { placeChecks, targetCheck } from './doctor/targets.ts';
import { openStore } from './stores.ts';

export type { Finding } from './doctor/check.ts';

export interface DiagnosisOptions {
  /** What was typed, as for every command. */
  readonly given: Readonly<Record<string, unknown>>;
  /** Also look deep at this one. */
  readonly workspace: WorkspaceKey | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** Where AWS is and who asks it. Left out: as its SDK finds it. */
  readonly aws?: Ec2CheckOptions['aws'];
}

/** Looks at everything that plugset needs as it is configured, and changes none of it. Holds no secret. */
export async function diagnose(options: DiagnosisOptions): Promise<readonly Finding[]> {
  const { clock, signal } = options;
  const [config, seen] = readConfig(options.given);
  const basic: readonly Check[] = [{ name: 'configuration', look: async () => seen }, ...machineChecks(clock)];
  if (config === undefined) return runChecks(basic, clock, signal);
  const ended = new AbortController();
  const over = AbortSignal.any([signal, ended.signal]);
  const opened = openStore(config, { role: 'client', logger: options.logger, clock });
  const declarations = withinReach(
    opened.then(({ store }) => readDeclarations(store, over)),
    clock,
  );
  // Each is awaited by the checks that need it; that nobody awaits them in time must end no process.
  const sshHosts = opened.then(({ state }) => new PooledSshHosts({ state: () => state, clock, isLookOnly: true }));
  for (const work of [opened, declarations, sshHosts]) void work.catch(() => undefined);
  try {
    return await runChecks(
      [
        ...basic,
        ...clusterChecks(config, clock),
        ...storeChecks({ ...options, config, opened, declarations }),
        namespaceCheck(config),
        ...placeChecks(config, declarations, clock, sshHosts),
        ...sshChecks(config, declarations),
        ...ec2Checks(config, declarations, { clock, aws: options.aws }),
        ...sourceChecks(config, declarations, clock),
        ...outsideChecks(config, async (until) => (await opened).authority(until), clock),
        ...workspaceChecks(config, options),
      ],
      clock,
      signal,
    );
  } finally {
    ended.abort();
    await settlesWithin(
      Promise.all([opened.then((store) => store.close()), sshHosts.then((hosts) => hosts.close())]),
      CLOSE_GRACE_MS,
      clock,
    );
  }
}

/** Well before the checks end that want to know what is declared: a store that hangs is the fault of none but its own. */
const STORE_DEADLINE_MS = 7_000;
const CLOSE_GRACE_MS = 2_000;

async function withinReach<T>(work: Promise<T>, clock: Clock): Promise<T> {
  if (await settlesWithin(work, STORE_DEADLINE_MS, clock)) return work;
  throw transient('StoreUnavailable', `the store does not answer within ${STORE_DEADLINE_MS / 1000} s`);
}

function workspaceChecks(config: Config, { workspace, logger, clock, aws }: DiagnosisOptions): readonly Check[] {
  if (workspace === undefined) return [];
  const open = async (trace: PathTrace) =>
    (await import('./app.ts')).openApp(config, logger, { role: 'client', clock, aws, trace });
  return [targetCheck(workspace, open, clock)];
}

function readConfig(given: DiagnosisOptions['given']): readonly [config: Config | undefined, seen: Seen] {
  try {
    const gathered: Gathered = gatherSettings(given);
    return [configOf(gathered), configurationSeen(gathered)];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return [
      undefined,
      fail(error.message, 'Correct it; nothing else can be looked at before. `plugset config` shows all.'),
    ];
  }
}
