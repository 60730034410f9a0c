import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { writePlugin } from './plugset.ts';

export interface NastyPluginOptions {
  /** Writes over its own manifest too, which is a listed file. */
  readonly editsItself?: boolean;
}

const LARGE_BYTES = 8 * 1024 * 1024;

/**
 * What the inert plugins of a test leave out: a daemon that builds and caches in the plugin's own tree for as long as it
 * runs and takes no notice of TERM, another that dies at its start, a large file, links to a file and to a directory.
 * {@link STARTS_PLUGINS} runs both.
 */
export async function writeNastyPlugin(dir: string, { editsItself = false }: NastyPluginOptions = {}): Promise<void> {
  await writePlugin(dir, {
    'plugin.yaml': 'name: nasty\nversion: 1.0.0\n',
    'SKILL.md': 'nasty\n',
    'docs/guide.md': 'a guide\n',
    'daemon.sh': editsItself ? `${DAEMON}echo "# $n" >>plugin.yaml\nwait_for_ever\n` : `${DAEMON}wait_for_ever\n`,
    'dies.sh': '#!/bin/sh\necho "dead on arrival" >&2\nexit 1\n',
  });
  await writeFile(join(dir, 'model.bin'), Buffer.alloc(LARGE_BYTES, 'weights '));
  await symlink('docs', join(dir, 'manual'));
  await symlink('SKILL.md', join(dir, 'README.md'));
}

const DAEMON = `#!/bin/sh
trap '' TERM
cd "\${0%/*}" || exit 1
n=0
work() {
  n=$((n + 1))
  mkdir -p __pycache__ build/lib nasty.egg-info
  for file in __pycache__/daemon.pyc build/lib/daemon.py nasty.egg-info/PKG-INFO state.db; do
    echo "$n" >"$file"
  done
}
wait_for_ever() {
  while :; do
    work
    sleep 0.1
  done
}
work
`;

/** The main process of a container whose runtime starts what its plugins bring. */
export const STARTS_PLUGINS = [
  'sh',
  '-c',
  'for script in /configs/plugins/*/daemon.sh /configs/plugins/*/dies.sh; do [ ! -x "$script" ] || "$script" & done; ' +
    'trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done',
];
