import { terminal, transient } from '../domain/errors.ts';
import type { HostPlace, Tool, ToolBench } from '../ports/plugin-host.ts';

/** Everything that the two scripts call and that is no part of a shell. */
export const NEEDED_TOOLS = [
  'awk',
  'cat',
  'chmod',
  'cp',
  'find',
  'mkdir',
  'mv',
  'rm',
  'rmdir',
  'sha256sum',
  'stat',
  'sync',
  'tar',
] as const;
/** The lock is made with the first, where there is one, or with the others. */
const LOCK_TOOLS = ['flock', 'mkfifo', 'sleep'] as const;

const SCRIPT = `for tool in "$@"; do echo "$tool $(command -v "$tool" 2>/dev/null)"; done`;
const DEADLINE_MS = 30_000;

/** Looks for what the scripts of plugset call, all of it together: they themselves stop at the first that is missing. */
export class ScriptTools implements ToolBench {
  async tools({ target }: Pick<HostPlace, 'target'>, signal: AbortSignal): Promise<readonly Tool[]> {
    const argv = ['sh', '-c', SCRIPT, 'sh', ...NEEDED_TOOLS, ...LOCK_TOOLS];
    const result = await target.run(argv, { as: 'observer', deadlineMs: DEADLINE_MS, signal });
    if (result.kind === 'unknown') throw transient('ObserveFailed', `${target.description}: ${result.message}`);
    if (result.code !== 0)
      throw terminal('ToolMissing', `${target.description}: sh cannot be run there (exit code ${result.code})`);
    const tools = result.stdout.toString('utf8').trimEnd().split('\n').map(toolIn);
    const missing = missingOf(tools);
    if (missing.length === 0) return tools;
    throw terminal('ToolMissing', `${target.description} lacks ${missing.join(', ')}`);
  }
}

function toolIn(line: string): Tool {
  const [name = '', ...path] = line.split(' ');
  return { name, path: path.join(' ') || undefined };
}

function missingOf(tools: readonly Tool[]): readonly string[] {
  const lacking = new Set(tools.filter(({ path }) => path === undefined).map(({ name }) => name));
  const canLock = !lacking.has('flock') || !(lacking.has('mkfifo') || lacking.has('sleep'));
  return [...NEEDED_TOOLS.filter((name) => lacking.has(name)), ...(canLock ? [] : ['flock'])];
}
