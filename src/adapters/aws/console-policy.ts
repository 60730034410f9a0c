import { waiting } from '../../domain/errors.ts';
import type { HostKeyPolicy } from '../../ports/ssh-endpoint.ts';
import type { AwsRegion } from './aws-region.ts';
import { consoleHostKeys } from './console-host-keys.ts';
import { instanceAddress } from './instance-address.ts';
import type { Instance } from './instance.ts';

/**
 * What is believed of an instance that is met for the first time. AWS vouches for its console, and cloud-init prints the host
 * keys there at the first boot.
 *
 * - `strict` only a key that stands there
 * - `console` the same; where none is told of some minutes after the launch, the first key counts and is noted as not verified
 * - `tofu` the first key, noted as not verified
 */
export type FirstContact = 'strict' | 'console' | 'tofu';

/** AWS posts a console some minutes after the boot. */
const PATIENCE_MS = 300_000;
const RETRY_MS = 15_000;

/** Pins go by the id of the instance: addresses are used again, and another instance behind one must not be taken for it. */
export function hostKeyPolicy(region: AwsRegion, instance: Instance, firstContact: FirstContact): HostKeyPolicy {
  const { id, launchedAtMs } = instance;
  return {
    name: id,
    address: instanceAddress(region.name, id),
    policy: firstContact,
    voucher: 'its console',
    ask: 'whenUnpinned',
    vouchedFor: async (signal) => {
      if (firstContact === 'tofu') return [];
      const keys = consoleHostKeys(await region.consoleOutput(id, signal));
      const isYoung = region.clock.now() - launchedAtMs < PATIENCE_MS;
      if (keys.length > 0 || !isYoung) return keys;
      throw waiting('HostKeyUnknown', `the console of instance ${id} tells no host keys yet`, RETRY_MS);
    },
    firstContact: firstContact === 'strict' ? 'strict' : 'tofu',
  };
}
