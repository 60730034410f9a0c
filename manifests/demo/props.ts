import { execFileSync } from 'node:child_process';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

import { MAIN, SCRIPTS, type Place } from './place.ts';

/* What the examples are made of: plugins in a local registry, one in a git repository, directories to install into. */

type Files = Readonly<Record<string, string>>;

const GREETER: Files = {
  'plugin.yaml': 'name: greeter\nversion: 1.0.0\nruntimes: [claude-code, hermes]\n',
  'skills/greet/SKILL.md': '# Greet\n\nSay hello before anything else.\n',
  'hooks/session-start.sh': '#!/bin/sh\necho hello\n',
};
const LINTER: Files = {
  'plugin.yaml': 'name: linter\nversion: 0.3.1\n',
  'skills/lint/SKILL.md': '# Lint\n\nRun the linter before every commit.\n',
};
const NOTES: Files = {
  'plugin.yaml': 'name: notes\nversion: 2.1.0\n',
  'skills/notes/SKILL.md': '# Notes\n\nWrite down what was decided.\n',
};

export async function makeProps(place: Place): Promise<void> {
  await writeFiles(place.path('registry/greeter'), GREETER);
  await writeFiles(place.path('registry/linter'), LINTER);
  await writeFiles(place.path('git/notes'), NOTES);
  const git = (...args: readonly string[]): void => {
    execFileSync('git', ['-C', place.path('git/notes'), ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  };
  git('init', '--quiet', '--initial-branch=main');
  git('config', 'user.name', 'demo');
  git('config', 'user.email', 'demo@example.com');
  git('config', 'commit.gpgSign', 'false');
  git('add', '--all');
  git('commit', '--quiet', '--message', 'notes 2.1.0');
  for (const name of ['alice', 'bob', 'carol', 'dave'])
    await mkdir(place.path('workspaces', name), { recursive: true });
  await writeFiles(place.dir, { 'dave.yaml': daveIn(place) });
}

/** Declares one more workspace, as a file. */
function daveIn(place: Place): string {
  return `apiVersion: plugset.dev/v1alpha1
kind: Workspace
metadata: {name: dave}
spec:
  runtime: langgraph
  target: {directory: {path: ${place.path('workspaces/dave')}}}
  plugins:
    - {name: linter, source: local://linter}
`;
}

export function notesSource(place: Place): string {
  return `git+file://${place.path('git/notes')}#main`;
}

/** Everything that plugset is told, as daemon and in the second terminal. */
export function plugsetSettings(place: Place, databaseUrl: string, listen: string, engine: string | undefined): Files {
  return {
    DATABASE_URL: databaseUrl,
    PLUGSET_ROOT: place.path('workspaces'),
    PLUGSET_REGISTRY: place.path('registry'),
    PLUGSET_GIT_ROOT: place.path('git'),
    PLUGSET_CACHE_DIR: place.path('cache'),
    PLUGSET_STATE_DIR: place.path('state'),
    PLUGSET_LISTEN: listen,
    PLUGSET_WORKSPACE_METRICS: 'true',
    // Much more often than by default, for people who watch.
    PLUGSET_PROBE_INTERVAL: '1',
    PLUGSET_DEEP_INTERVAL: '3',
    PLUGSET_RESOLVE_INTERVAL: '2',
    PLUGSET_GRACE: '5',
    ...(engine === undefined ? {} : { PLUGSET_DOCKER_HOST: engine }),
  };
}

/** Commands for the second terminal, which has none of our environment. */
export async function makeCommands(place: Place, settings: Files): Promise<void> {
  const exports = Object.entries(settings).map(([name, value]) => `export ${name}=${quote(value)}\n`);
  // PLUGSET_FILES would win over the database.
  const head = `#!/bin/sh\n# Made by npm start.\nunset PLUGSET_FILES\n${exports.join('')}`;
  const node = quote(process.execPath);
  await writeFiles(place.dir, {
    plugset: `${head}exec ${node} ${quote(MAIN)} "$@"\n`,
    sql: `${head}exec ${node} ${quote(`${SCRIPTS}sql.js`)} "$@"\n`,
    psql: `${head}exec psql "$DATABASE_URL" "$@"\n`,
  });
}

/** Files that a shell runs are executable, and hold a password: nobody else reads them. */
async function writeFiles(dir: string, files: Files): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    const path = `${dir}/${name}`;
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
    if (content.startsWith('#!')) await chmod(path, 0o700);
  }
}

function quote(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
