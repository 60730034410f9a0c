import type { TargetKind } from './workspace.ts';

/** What plugset must know of a runtime to install for it. First form: activation and residue come later. */
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

const DOCKER_CONFIG_DIR = '/configs';

const BUILT_IN = ['claude-code', 'hermes', 'langgraph', 'deepagents', 'crewai', 'autogen', 'openclaw'] as const;

export const BUILT_IN_PROFILES: readonly RuntimeProfile[] = BUILT_IN.map((runtime) => ({
  runtime,
  configDir: { docker: DOCKER_CONFIG_DIR, directory: '.' },
  owner: 'configDir',
  disposable: DISPOSABLE,
}));

/** `claude_code` and `claude-code` are one runtime; case counts. */
export function isSameRuntime(a: string, b: string): boolean {
  return a.replaceAll('-', '_') === b.replaceAll('-', '_');
}

/** `undefined` for an unknown runtime: a condition, never a guess. */
export function findProfile(profiles: readonly RuntimeProfile[], runtime: string): RuntimeProfile | undefined {
  return profiles.find((profile) => isSameRuntime(profile.runtime, runtime));
}
