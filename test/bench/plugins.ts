import { randomBytes } from 'node:crypto';
import { join } from 'node:path';

import { writePlugin } from '../support/plugset.ts';

const COUNT = 10;

/** Ten plugins of five files. */
export const PLUGIN_NAMES: readonly string[] = Array.from({ length: COUNT }, (_, index) => `plugin-${index}`);

export async function writePlugins(registry: string): Promise<void> {
  for (const name of PLUGIN_NAMES) {
    await writePlugin(join(registry, name), {
      'plugin.yaml': `name: ${name}\nversion: 1.0.0\ndescription: One of ${COUNT}\nruntimes: [claude-code]\n`,
      'README.md': text(name, 1_500),
      'skills/review/SKILL.md': text(`${name} review`, 6_000),
      'skills/review/reference.md': text(`${name} reference`, 20_000),
      'hooks/start.sh': `#!/bin/sh\necho ${name}\n`,
    });
  }
}

/** Ten plugins of two megabytes, in two files. */
export async function writeLargePlugins(registry: string): Promise<void> {
  for (const name of PLUGIN_NAMES) {
    const half = (): string => randomBytes(500_000).toString('hex');
    await writePlugin(join(registry, name), {
      'SKILL.md': text(name, 6_000),
      'model.hex': half(),
      'words.hex': half(),
    });
  }
}

function text(title: string, bytes: number): string {
  return `# ${title}\n${`A line of a skill of ${title}, as long as such lines are.\n`.repeat(bytes / 60)}`;
}
