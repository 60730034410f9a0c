import type { Config } from '../config.ts';
import { isForAnybody } from '../domain/access.ts';
import { warn, type Check, type Seen } from './check.ts';

type Entries = Pick<Config, 'store' | 'roots' | 'sshHosts' | 'ec2' | 'gitCredentials' | 'sshKey'>;

/** Whether what the operator allows is allowed to anybody: in a cluster an entry without namespaces is not. */
export function namespaceCheck(config: Entries): Check {
  return { name: 'namespaces', look: async () => forNobody(config) };
}

/** Engines are left out: the default one is there though nobody has asked for it. */
function forNobody({ store, roots, sshHosts, ec2, gitCredentials, sshKey }: Entries): readonly Seen[] {
  if (store.kind !== 'kubernetes') return [];
  const credentials = sshKey === undefined ? gitCredentials : [...gitCredentials, sshKey];
  const entries = [
    ...roots.map(({ path, ...entry }) => ({ ...entry, what: `the root ${path}` })),
    ...sshHosts.map(({ hosts, ...entry }) => ({ ...entry, what: `the hosts ${hosts.join(', ')}` })),
    ...ec2.regions.map(({ name, ...entry }) => ({ ...entry, what: `the region ${name}` })),
    ...credentials.map(({ file, ...entry }) => ({ ...entry, what: `the credentials in ${file}` })),
  ];
  return entries
    .filter((entry) => !isForAnybody(entry))
    .map(({ what }) =>
      warn(`no workspace may use ${what}`, 'Name for whom it is: `namespaces` of that entry, * for all.'),
    );
}
