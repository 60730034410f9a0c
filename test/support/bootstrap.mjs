// What `npm start` and `npm test` run first, on a machine that may have nothing but Node and git. Plain JavaScript and
// old syntax on purpose: it must run before anything is installed, and say something useful on a Node that is too old.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

const readJson = (path) => JSON.parse(readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8'));

function checkNode() {
  const wanted = readJson('package.json').engines.node.replace('>=', '').split('.').map(Number);
  const actual = process.versions.node.split('.').map(Number);
  if (actual[0] > wanted[0] || (actual[0] === wanted[0] && actual[1] >= wanted[1])) return;
  console.error(
    `plugset needs Node ${wanted.join('.')} or newer, and this is Node ${process.versions.node} (${process.execPath}).`,
  );
  process.exit(1);
}

/** npm keeps what it installed in a lock file of its own inside node_modules; optional packages of other platforms are not in it. */
function isInstalled() {
  if (!existsSync(new URL('../../node_modules/.package-lock.json', import.meta.url))) return false;
  const installed = readJson('node_modules/.package-lock.json').packages;
  return Object.entries(readJson('package-lock.json').packages).every(([path, wanted]) => {
    if (path === '') return true;
    const found = installed[path];
    return found === undefined
      ? wanted.optional === true
      : found.version === wanted.version && found.integrity === wanted.integrity;
  });
}

function install() {
  console.log('Installing packages (npm ci): they are missing or older than package-lock.json.');
  const npm = spawnSync('npm', ['ci', '--strict-allow-scripts', '--no-audit', '--no-fund'], {
    cwd: new URL('../..', import.meta.url),
    stdio: 'inherit',
    shell: process.platform === 'win32',
  });
  if (npm.status === 0) return;
  console.error(
    'npm ci failed; its messages are above. Without a network, a copy of node_modules from another checkout will do.',
  );
  process.exit(1);
}

checkNode();
if (!isInstalled()) install();
