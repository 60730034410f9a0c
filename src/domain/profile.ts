import { z } from 'zod';

import { definedOnly } from './defined-only.ts';
import type { TargetKind } from './workspace.ts';

/** What plugset must know of a runtime to install for it, and to take back what the runtime made of plugins. */
export interface RuntimeProfile {
  readonly runtime: string;
  /**
   * Absolute directory on the target under which `plugins/` and `.plugset/` lie, by kind of target.
   * `.` is the target directory itself. A kind that is not listed cannot be used with this runtime.
   */
  readonly configDir: Readonly<Partial<Record<TargetKind, string>>>;
  /**
   * Who writes: `configDir` is the owner that the config directory has on the target, so that a link swapped in at the
   * right moment gains nothing; two numbers where the profile knows better.
   */
  readonly owner: 'configDir' | { readonly uid: number; readonly gid: number };
  /**
   * Shell patterns (`*`, `?`) of path segments that a runtime makes by itself beside plugin files. When a tree is
   * replaced, unlisted files under such a segment go; any other unlisted file is moved to `.plugset/kept/`.
   */
  readonly disposable: readonly string[];
  /**
   * Patterns of paths inside a plugin (`skills/**`) that the runtime reads anew each time it needs them: an upgrade that
   * touches nothing else takes no restart.
   */
  readonly rereads: readonly string[];
  /**
   * Below the config directory, such as `CLAUDE.md`: what a loader appends rules of plugins to. Left out: the runtime has no
   * loader that makes anything of plugins elsewhere.
   */
  readonly memoryFile?: string | undefined;
  /** Whether it reads the settings of plugins at its start only, so that other ones take a restart. */
  readonly settingsNeedRestart?: true | undefined;
  /** How long its runtime takes to start, where the target itself cannot say. Never restarted meanwhile. Milliseconds. */
  readonly bootMs: number;
  /** Has the runtime take changes of these files up without a restart. */
  readonly reload?: Reload | undefined;
  /** Ends with 0 on the target once the runtime has started whole. A restart is over then, and no other one begins before. */
  readonly ready?: readonly string[] | undefined;
  /** Ends with 0 on the target while the runtime is at work, and is not restarted; with 1 while it may be. */
  readonly busy?: readonly string[] | undefined;
  /** How it is restarted on a host; containers know it themselves. Left out: by nobody but its user. */
  readonly activation?: Activation | undefined;
}

export interface Reload {
  /** Patterns of paths inside a plugin, as in `rereads`. */
  readonly paths: readonly string[];
  readonly command: readonly string[];
}

/** Commands that an operator gives for a host, as argv; they run as the user who logs in. */
export interface Activation {
  readonly restart: readonly string[];
  /** Prints when the runtime was started: Unix seconds, or a date; nothing while it does not run. */
  readonly startedAt: readonly string[];
}

const DISPOSABLE = [
  '__pycache__',
  '*.pyc',
  '*.pyo',
  '*.egg-info',
  '.pytest_cache',
  '.mypy_cache',
  '.ruff_cache',
  'node_modules',
  '.venv',
  '.cache',
] as const;

const DEFAULT_CONFIG_DIR = {
  docker: '/configs',
  directory: '.',
  ssh: '/configs',
  ec2: '/configs',
  pod: '/configs',
} as const;

/** Where runtimes live that are installed on a host. */
const HOST_CONFIG_DIR: Readonly<Record<string, string>> = {
  hermes: '/home/ubuntu/.hermes',
  langgraph: '/opt/configs',
};

/** The slowest cold boots of agent runtimes that were seen took 60 to 90 s. */
const BOOT_MS = 90_000;

const BUILT_IN = ['claude-code', 'hermes', 'langgraph', 'deepagents', 'crewai', 'autogen', 'openclaw'] as const;

export const BUILT_IN_PROFILES: readonly RuntimeProfile[] = BUILT_IN.map((runtime) => ({
  runtime,
  configDir: {
    ...DEFAULT_CONFIG_DIR,
    ssh: HOST_CONFIG_DIR[runtime] ?? DEFAULT_CONFIG_DIR.ssh,
    ec2: HOST_CONFIG_DIR[runtime] ?? DEFAULT_CONFIG_DIR.ec2,
  },
  owner: 'configDir',
  disposable: DISPOSABLE,
  rereads: [],
  bootMs: BOOT_MS,
}));

const numberSchema = z.int().min(0).max(4_294_967_294);

const absoluteSchema = z
  .string()
  .max(4096)
  .regex(/^\/(?:[^/\0\n\r]+(?:\/[^/\0\n\r]+)*)?$/, 'must be an absolute path without a slash at its end');

const commandSchema = z
  .array(
    z
      .string()
      .max(4096)
      .regex(/^[^\0]*$/, 'must not hold NUL'),
  )
  .min(1, 'name a program')
  .max(100);

const NO_HALF_STARS = '** must be a segment of its own';

const patternsSchema = z
  .array(
    z
      .string()
      .max(1024)
      .regex(/^[^/\0\n\r]+(?:\/[^/\0\n\r]+)*$/, 'must be a pattern for a path inside a plugin, such as skills/**')
      .refine((pattern) => !pattern.split('/').some((one) => one === '.' || one === '..'), 'must not have . or ..')
      .refine((pattern) => !pattern.split('/').some((one) => one !== '**' && one.includes('**')), NO_HALF_STARS),
  )
  .max(100);

/** A profile as an operator writes it; what is left out is as in the built-in one of that runtime, else as in all of them. */
export const runtimeProfileSchema = z
  .strictObject({
    runtime: z.string().min(1).max(128).describe('Name that workspaces give. - and _ are equal.'),
    configDir: z
      .strictObject({
        docker: absoluteSchema.optional(),
        ssh: absoluteSchema.optional(),
        ec2: absoluteSchema.optional(),
        pod: absoluteSchema.optional(),
        directory: z
          .string()
          .max(4096)
          .regex(/^[^/\0\n\r]+(?:\/[^/\0\n\r]+)*$/, 'must be a path inside the directory; . is the directory itself')
          .refine((path) => !path.split('/').includes('..'), 'must not leave the directory')
          .optional(),
      })
      .describe('Directory under which plugins/ and .plugset/ lie, by kind of target.')
      .optional(),
    owner: z
      .strictObject({ uid: numberSchema, gid: numberSchema })
      .describe('Who owns the files. Left out: the owner that the config directory has on the target.')
      .optional(),
    disposable: z
      .array(z.string().regex(/^[^/\0\n\r]{1,255}$/, 'must be a pattern for one path segment'))
      .max(100)
      .describe('Patterns of what the runtime makes by itself beside plugin files; it goes when a tree is replaced.')
      .optional(),
    rereads: patternsSchema
      .describe(
        'Patterns of files inside a plugin (skills/**) that the runtime reads anew each time; an upgrade of nothing else ' +
          'restarts nothing.',
      )
      .optional(),
    memoryFile: z
      .string()
      .max(255)
      .regex(
        /^(?!plugins$|skills$)[A-Za-z0-9][\w. -]*(?<! )$/,
        'must be the name of a file in configDir, such as CLAUDE.md',
      )
      .describe(
        'File in configDir that the loader of the runtime appends rules of plugins to, such as CLAUDE.md. Given: what the loader ' +
          'made of a plugin (there, in skills/, in .claude/) goes with the plugin. Left out: only its tree goes.',
      )
      .optional(),
    settingsNeedRestart: z
      .boolean()
      .describe(
        'true: the runtime reads the settings of plugins (plugin-settings/) at its start only, and other ones take a restart. ' +
          'Left out: a change of settings alone restarts nothing.',
      )
      .optional(),
    bootSeconds: z
      .number()
      .min(0, 'must be 0 or more')
      .max(3600, 'must be at most 3600')
      .describe(
        'How long it takes to start; it is not restarted meanwhile. A container with a health check says it itself.',
      )
      .optional(),
    reload: z
      .strictObject({
        paths: patternsSchema.describe('Patterns of files inside a plugin, such as rules/**.'),
        command: commandSchema.describe(
          'Such as [agentctl, reload]; it must end with 0. Run as the owner of configDir.',
        ),
      })
      .describe(
        'An upgrade of nothing but files under rereads and under these paths takes this command on the target in place of a ' +
          'restart; one that fails is followed by a restart. Only where plugset could restart it, too.',
      )
      .optional(),
    ready: commandSchema
      .describe(
        'Command on the target that ends with 0 once the runtime has started whole, such as [test, -e, /run/agent.ready]. A restart is ' +
          'over then, and no other one begins before (after 15 minutes it is told as failed). Run as the owner of configDir.',
      )
      .optional(),
    busy: commandSchema
      .describe(
        'Command on the target that ends with 0 while the runtime is at work, and with 1 while it is not: only then it is restarted. ' +
          'Asked again each minute. Run as the owner of configDir.',
      )
      .optional(),
    activation: z
      .strictObject({
        restart: commandSchema.describe('Restarts it, such as [sudo, -n, systemctl, try-restart, agent].'),
        startedAt: commandSchema.describe(
          'Prints when it was started (Unix seconds or a date), and nothing while it does not run, such as ' +
            '[systemctl, show, agent, --property=ActiveEnterTimestamp, --value].',
        ),
      })
      .describe(
        'Commands on an ssh host or ec2 instance, run as the user who logs in. Left out: plugset does not restart it there.',
      )
      .optional(),
  })
  .describe('What plugset must know of a runtime.');

/** The built-in profiles with those of the operator over and beside them. */
export function profilesWith(own: readonly z.infer<typeof runtimeProfileSchema>[]): readonly RuntimeProfile[] {
  const profiles = new Map(BUILT_IN_PROFILES.map((profile) => [normalRuntime(profile.runtime), profile]));
  for (const { runtime, configDir, owner, disposable, rereads, memoryFile, settingsNeedRestart, ...rest } of own) {
    const { bootSeconds, reload, ready, busy, activation } = rest;
    const base = profiles.get(normalRuntime(runtime));
    profiles.set(normalRuntime(runtime), {
      runtime,
      configDir: { ...(base?.configDir ?? DEFAULT_CONFIG_DIR), ...definedOnly(configDir ?? {}) },
      owner: owner ?? base?.owner ?? 'configDir',
      disposable: disposable ?? base?.disposable ?? DISPOSABLE,
      rereads: rereads ?? base?.rereads ?? [],
      memoryFile: memoryFile ?? base?.memoryFile,
      settingsNeedRestart: (settingsNeedRestart ?? base?.settingsNeedRestart ?? false) || undefined,
      bootMs: bootSeconds === undefined ? (base?.bootMs ?? BOOT_MS) : bootSeconds * 1000,
      reload: reload ?? base?.reload,
      ready: ready ?? base?.ready,
      busy: busy ?? base?.busy,
      activation: activation ?? base?.activation,
    });
  }
  return [...profiles.values()];
}

/** A profile as it would stand in a configuration; read again it is the same one. */
export function writtenProfile(profile: RuntimeProfile): z.input<typeof runtimeProfileSchema> {
  const { runtime, configDir, owner, disposable, rereads, memoryFile, settingsNeedRestart, ...rest } = profile;
  const { bootMs, reload, ready, busy, activation } = rest;
  return {
    runtime,
    configDir: { ...configDir },
    ...(owner !== 'configDir' && { owner }),
    disposable: [...disposable],
    rereads: [...rereads],
    ...(memoryFile !== undefined && { memoryFile }),
    ...(settingsNeedRestart === true && { settingsNeedRestart }),
    bootSeconds: bootMs / 1000,
    ...(reload && { reload: { paths: [...reload.paths], command: [...reload.command] } }),
    ...(ready && { ready: [...ready] }),
    ...(busy && { busy: [...busy] }),
    ...(activation && { activation: { restart: [...activation.restart], startedAt: [...activation.startedAt] } }),
  };
}

/** `claude_code` and `claude-code` are one runtime; case counts. */
export function isSameRuntime(a: string, b: string): boolean {
  return normalRuntime(a) === normalRuntime(b);
}

function normalRuntime(runtime: string): string {
  return runtime.replaceAll('-', '_');
}

/** `undefined` for an unknown runtime: a condition, never a guess. */
export function findProfile(profiles: readonly RuntimeProfile[], runtime: string): RuntimeProfile | undefined {
  return profiles.find((profile) => isSameRuntime(profile.runtime, runtime));
}
