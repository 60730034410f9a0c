// plugset as it is, on a real cluster, over targets that are nothing but a note of what was put there: what a fleet costs
// without its machines. Plain JavaScript on dist/, because Node 20 runs no TypeScript.
//
//   argv: options as of `plugset run`, then --, how many workspaces there are, a file that keeps the notes between two lives
//   of this process, and the directory of the service account that it runs as (with KUBERNETES_SERVICE_HOST and _PORT). It
//   prints `checked` once so many were looked at, `heap` and the bytes in use at SIGUSR2, and saves the notes when it is told to
//   end.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { deserialize, serialize } from 'node:v8';

import { Command } from 'commander';

import { openApp } from '../../dist/app.js';
import { addDaemonOptions } from '../../dist/cli/session.js';
import { gatherSettings, notifyingConfigOf } from '../../dist/config.js';
import { hexOf, sha256 } from '../../dist/domain/digest.js';
import { treeDigest } from '../../dist/domain/tree.js';
import { PinoLogger } from '../../dist/adapters/telemetry/pino-logger.js';

const [expected, notesFile, account] = process.argv.slice(process.argv.indexOf('--') + 1);

/** By path: the plugins there by name, the authority, and how often it was changed. Plugins that are the same are one object. */
const places = existsSync(notesFile) ? deserialize(readFileSync(notesFile)) : new Map();
const known = new Map();
let unchecked = new Set();

function placeOf(path) {
  let place = places.get(path);
  if (place === undefined) places.set(path, (place = { plugins: new Map(), authority: '', changes: 0 }));
  return place;
}

const provider = {
  kind: 'directory',
  addresses: ({ target }) => [target.directory.path],
  lane: () => 'null',
  locate: async ({ key, target: { directory } }) => ({
    identity: directory.path,
    workspace: key,
    description: `directory ${directory.path}`,
    probe: async () => ({ kind: 'token', token: `${placeOf(directory.path).changes}` }),
    run: () => Promise.reject(new Error('nothing runs here')),
  }),
  close: async () => undefined,
};

const host = {
  observe: async ({ target }) => observation(target),
  async converge({ target }, { transaction, artifacts, fence }) {
    const place = placeOf(target.identity);
    place.authority = fence.authority;
    place.changes++;
    for (const operation of transaction.operations) {
      if (operation.kind === 'remove-tree') place.plugins.delete(operation.plugin);
      if (operation.kind === 'put-tree') place.plugins.set(operation.plugin, installed(operation, artifacts));
    }
    return { failed: new Map(), kept: [], observation: observation(target) };
  },
};

function installed({ plugin, digest, receipt: { source, revision } }, artifacts) {
  const key = `${plugin} ${source} ${digest}`;
  let found = known.get(key);
  if (found === undefined) {
    const { lists } = artifacts.get(digest);
    found = { source, revision, digest, listDigest: treeDigest(lists), filesSha256: hexOf(sha256(lists.files)) };
    known.set(key, found);
  }
  return found;
}

function observation({ identity, workspace }) {
  const { plugins, authority } = placeOf(identity);
  unchecked?.add(identity);
  if (unchecked?.size === Number(expected)) {
    unchecked = undefined;
    process.stdout.write('checked\n');
  }
  return {
    owner: { uid: 0, gid: 0 },
    odd: [],
    journalPending: false,
    plugins: [...plugins].map(([name, { source, revision, digest, listDigest, filesSha256 }]) => ({
      name,
      manifest: {},
      present: true,
      differing: [],
      listDigest,
      filesSha256,
      receipt: { format: 1, plugin: name, workspace, authority, source, revision, digest },
    })),
  };
}

/** A kubelet puts the account elsewhere, where a bench has no business. */
function inPod(config) {
  const { inCluster } = config.kubernetes;
  return { ...config, kubernetes: { ...config.kubernetes, inCluster: { ...inCluster, directory: account } } };
}

const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
// Only under --expose-gc.
process.on('SIGUSR2', () => {
  globalThis.gc();
  process.stderr.write(`heap ${process.memoryUsage().heapUsed}\n`);
});
const command = addDaemonOptions(new Command()).allowExcessArguments().parse();
const config = inPod(notifyingConfigOf(gatherSettings(command.opts())));
const app = await openApp(config, PinoLogger.create({ level: 'warn' }), { providers: [provider], host });
process.stdout.write('started\n');
await app.run(stop.signal);
await app.close();
writeFileSync(notesFile, serialize(places));
