import { spawnSync } from 'node:child_process';

import type { Backend } from './backend.ts';

/** `docker compose` (version 2, a plugin of docker's), or `docker-compose` (version 1, which Debian 12 has). */
export async function findCompose(): Promise<Backend> {
  for (const command of ['docker compose', 'docker-compose']) {
    const [program = '', ...args] = command.split(' ');
    if (spawnSync(program, [...args, 'version']).status === 0)
      return { address: command, how: `the command ${command}`, stop: async () => undefined };
  }
  return { missing: 'neither docker compose nor docker-compose (Debian: apt install docker-compose)' };
}
