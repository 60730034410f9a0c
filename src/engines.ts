import type { ReachedEngine } from './adapters/docker/docker-target-provider.ts';
import { engineDialer } from './adapters/ssh/engine-dialer.ts';
import type { PooledSshHosts } from './adapters/ssh/pooled-ssh-hosts.ts';
import type { Config } from './config.ts';

/** The engines of the configuration; those on other machines over the connections of `hosts`. */
export function reachedEngines(
  { engines, engineHosts }: Pick<Config, 'engines' | 'engineHosts'>,
  hosts: Pick<PooledSshHosts, 'socketDialer' | 'commandDialer'>,
): readonly ReachedEngine[] {
  return engines.map((engine) => ({ ...engine, dialer: engineDialer(engine.address, engineHosts, hosts) }));
}
