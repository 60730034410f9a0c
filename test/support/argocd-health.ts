import { execFile, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const SCRIPT = fileURLToPath(new URL('../../manifests/argocd/health.lua', import.meta.url));

/** On a laptop; in CI its absence is a failure. */
export const LUA_IS_MISSING = process.env['CI'] !== 'true' && spawnSync('lua5.1', ['-v']).error !== undefined;

/** What Argo CD shows of a resource. */
export interface ArgoHealth {
  readonly status: string;
  readonly message: string;
}

/** What Argo CD opens for such a script: no more of Lua than its core, and `table`. */
const DRIVER = `
local write, load = io.write, loadfile
getmetatable('').__index = nil
string, math, io, os, debug, coroutine, loadfile, dofile, require, package = nil
local chunk = assert(load(arg[1]))
local health = chunk()
write(health.status, '\\n', health.message)
`;

/** Runs the health check of the manifests, in the Lua that Argo CD has, over an object as the API server hands it out. */
export async function argoHealth(object: object): Promise<ArgoHealth> {
  const code = `obj = ${literal(JSON.parse(JSON.stringify(object)))}\n${DRIVER}`;
  const running = promisify(execFile)('lua5.1', ['-', SCRIPT], { timeout: 30_000 });
  running.child.stdin?.end(code);
  const [status = '', ...message] = (await running).stdout.split('\n');
  return { status, message: message.join('\n') };
}

function literal(value: unknown): string {
  if (value === null) return 'nil';
  if (typeof value === 'string') return quoted(value);
  if (typeof value !== 'object') return JSON.stringify(value);
  if (Array.isArray(value)) return `{${value.map(literal).join(', ')}}`;
  return `{${Object.entries(value)
    .map(([key, inner]) => `[${quoted(key)}] = ${literal(inner)}`)
    .join(', ')}}`;
}

/** Byte by byte: Lua 5.1 knows no other escape that says them all. */
function quoted(text: string): string {
  return `"${[...Buffer.from(text)].map((byte) => `\\${String(byte).padStart(3, '0')}`).join('')}"`;
}
