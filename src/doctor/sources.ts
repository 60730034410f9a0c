import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { promisify } from 'node:util';

import { GIT_SCHEMES } from '../adapters/git/address.ts';
import type { Config } from '../config.ts';
import { causeOf } from '../domain/error-code.ts';
import { isName } from '../domain/name.ts';
import { countOf } from '../domain/text.ts';
import type { Clock } from '../ports/clock.ts';
import { fail, ok, warn, type Check, type Seen } from './check.ts';
import type { Declarations } from './declarations.ts';
import { bytes, cannotBeRead, freeBytesAt, keptIn, secretFile } from './files.ts';

const run = promisify(execFile);
/** The first that connects to the addresses which plugset has checked (`http.curloptResolve`). */
const GIT_SINCE = [2, 37] as const;
const LEAST_FREE_BYTES = 1024 ** 3;
const MONTH_MS = 30 * 24 * 3_600_000;

/** Whether everything is there that sources need: git, credentials, registries, room. */
export function sourceChecks(config: Config, declarations: Promise<Declarations>, clock: Clock): readonly Check[] {
  const schemes = declarations.then(
    (known) => known.schemes,
    () => new Set<string>(),
  );
  const { caFile, knownHosts, sshKey } = config;
  return [
    { name: 'git', look: (signal) => git(config, schemes, signal) },
    { name: 'sources', look: () => missingSettings(config, schemes) },
    ...config.registries.map((path) => ({ name: 'registry', look: () => registry(path) })),
    ...config.gitRoots.map((path) => ({ name: 'git root', look: () => gitRoot(path) })),
    ...config.gitCredentials.map(({ file }) => ({ name: 'git credentials', look: () => credentials(file) })),
    ...(knownHosts === undefined ? [] : [{ name: 'known hosts', look: () => hostKeys(knownHosts) }]),
    ...(sshKey === undefined ? [] : [{ name: 'ssh key', look: () => sshKeyLook(sshKey.file) }]),
    ...(caFile === undefined ? [] : [{ name: 'CA file', look: () => certificates(caFile, clock.now()) }]),
    { name: 'cache', look: () => cache(config) },
  ];
}

async function git({ path }: Config, schemes: Promise<ReadonlySet<string>>, signal: AbortSignal): Promise<Seen> {
  const env = { PATH: path, LANG: 'C' };
  try {
    const { stdout } = await run('git', ['--version'], { env, signal });
    const [, major = '0', minor = '0'] = /(\d+)\.(\d+)/.exec(stdout) ?? [];
    const isOld = Number(major) < GIT_SINCE[0] || (Number(major) === GIT_SINCE[0] && Number(minor) < GIT_SINCE[1]);
    const found = stdout.trim();
    if (isOld)
      return warn(
        `${found}: it looks host names up again after plugset has checked them`,
        `Install git ${GIT_SINCE.join('.')} or newer.`,
      );
    if (!(await schemes).has('git+ssh')) return ok(found);
    await run('ssh', ['-V'], { env, signal });
    return ok(`${found}, and ssh`);
  } catch (error) {
    const { path: program = 'git' } = error as NodeJS.ErrnoException;
    const declared = await schemes;
    const seen = `${program} is not there, or does not run (${causeOf(error)}); looked for in ${path}`;
    return GIT_SCHEMES.some((scheme) => declared.has(scheme))
      ? fail(seen, `Install ${program}, or set PATH: plugins come from repositories.`)
      : warn(seen, `Install ${program} before a plugin comes from a repository.`);
  }
}

/** What declared sources cannot do without. */
async function missingSettings(config: Config, schemes: Promise<ReadonlySet<string>>): Promise<readonly Seen[]> {
  const declared = await schemes;
  const lacking: readonly (readonly [scheme: string, isMissing: boolean, fix: string])[] = [
    ['local', config.registries.length === 0, 'Name the directory of local plugins: --registry DIR.'],
    ['gitea', config.giteaUrl === undefined, 'Say where it is: --gitea-url URL.'],
    ['git+ssh', config.knownHosts === undefined, 'Name a file of host keys: --known-hosts FILE.'],
    ['git+file', config.gitRoots.length === 0, 'Name the directory of the repositories: --git-root DIR.'],
  ];
  return lacking
    .filter(([scheme, isMissing]) => isMissing && declared.has(scheme))
    .map(([scheme, , fix]) => fail(`plugins come from ${scheme}://, and the setting for it is missing`, fix));
}

async function registry(path: string): Promise<Seen> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    const plugins = entries.filter((entry) => !entry.isFile() && isName(entry.name)).length;
    if (plugins > 0) return ok(`${path}: ${countOf(plugins, 'plugin')}`);
    return warn(`${path} holds no plugin`, 'Put a directory for each plugin there, or correct --registry.');
  } catch (error) {
    return fail(`${path} cannot be read (${causeOf(error)})`, 'Make it readable, or correct --registry.');
  }
}

async function gitRoot(path: string): Promise<Seen> {
  try {
    await readdir(path);
    return ok(`${path} can be read`);
  } catch (error) {
    return fail(`${path} cannot be read (${causeOf(error)})`, 'Make it readable, or correct --git-root.');
  }
}

/** Says how many lines can be used, and of none what is in it. */
function credentials(path: string): Promise<readonly Seen[]> {
  return secretFile(path, 'sources.gitCredentials', async () => {
    const lines = (await readFile(path, 'utf8')).split('\n').filter((line) => !/^\s*(?:#.*)?$/.test(line));
    const isUsable = (line: string): boolean => {
      const url = URL.canParse(line) ? new URL(line) : undefined;
      return url !== undefined && /^https?:$/.test(url.protocol) && url.password !== '';
    };
    const usable = lines.filter(isUsable).length;
    if (usable === lines.length && usable > 0) return ok(`${path}: credentials for ${countOf(usable, 'host')}`);
    const seen = `${path}: ${lines.length - usable} of ${lines.length} lines cannot be used`;
    return warn(seen, 'Write a line for each host: https://USER:TOKEN@HOST.');
  });
}

function sshKeyLook(path: string): Promise<readonly Seen[]> {
  return secretFile(path, 'sources.sshKey', async () => ok(`${path} is there`));
}

async function hostKeys(path: string): Promise<Seen> {
  const unreadable = await cannotBeRead(path, 'sources.knownHosts');
  if (unreadable !== undefined) return unreadable;
  const keys = (await readFile(path, 'utf8')).split('\n').filter((line) => /^\s*[^#\s]+\s+\S+\s+\S+/.test(line)).length;
  if (keys > 0) return ok(`${path}: ${countOf(keys, 'key')}`);
  return fail(
    `${path} holds no host key: every host is refused`,
    'Add them: ssh-keyscan HOST, compared with what the host says.',
  );
}

async function certificates(path: string, nowMs: number): Promise<Seen> {
  const unreadable = await cannotBeRead(path, 'sources.caFile');
  if (unreadable !== undefined) return unreadable;
  const blocks =
    (await readFile(path, 'utf8')).match(/-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----/g) ?? [];
  let ends: readonly number[];
  try {
    ends = blocks.map((block) => Date.parse(new X509Certificate(block).validTo));
  } catch (error) {
    return fail(`${path}: a certificate in it cannot be read (${causeOf(error)})`, 'Put whole PEM certificates there.');
  }
  if (ends.length === 0) return fail(`${path} holds no certificate`, 'Put PEM certificates there (BEGIN CERTIFICATE).');
  const first = Math.min(...ends);
  const until = new Date(first).toISOString().slice(0, 10);
  const seen = `${path}: ${countOf(ends.length, 'certificate')}, good until ${until}`;
  if (first > nowMs + MONTH_MS) return ok(seen);
  return warn(first < nowMs ? `${path}: a certificate ended on ${until}` : seen, 'Put the renewed certificate there.');
}

async function cache({ cacheDir, cacheBytes }: Config): Promise<readonly Seen[]> {
  const kept = await keptIn(cacheDir, 'sources.cacheDirectory');
  if (kept.result === 'FAIL') return [kept];
  const free = await freeBytesAt(cacheDir);
  const seen = `${bytes(free)} free there; it grows to ${bytes(cacheBytes)} at most`;
  if (free >= Math.min(cacheBytes, LEAST_FREE_BYTES)) return [ok(`${kept.seen}; ${seen}`)];
  return [kept, warn(seen, 'Free space, or name another place: --cache-dir.')];
}
