import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

import type { Backend } from '../backend.ts';

const SCRIPT = fileURLToPath(new URL('programs.sh', import.meta.url));
const UNAVAILABLE = 3;

export type KubeProgram = 'etcd' | 'kube-apiserver' | 'kubectl' | 'kubelet';

/** The directory of these programs; the first run builds them, minutes long, and says so on stderr. */
export async function findKubePrograms(...names: readonly KubeProgram[]): Promise<Backend> {
  const script = spawn('sh', [SCRIPT, ...names], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [said, [code]] = await Promise.all([text(script.stdout), once(script, 'close') as Promise<[number | null]>]);
  const answer = said.trim();
  if (code === UNAVAILABLE) return { missing: answer };
  if (code !== 0) throw new Error(`building ${names.join(', ')} failed; what was wrong is on stderr`);
  return { address: answer, how: `${names.join(', ')} in ${answer}`, stop: async () => undefined };
}
