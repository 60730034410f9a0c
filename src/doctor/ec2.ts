import { AwsRegion, type AwsRegionOptions } from '../adapters/aws/aws-region.ts';
import type { Config } from '../config.ts';
import { countOf } from '../domain/text.ts';
import type { Clock } from '../ports/clock.ts';
import { fail, ok, type Check, type Seen } from './check.ts';
import type { Declarations } from './declarations.ts';

const REQUEST_TIMEOUT_MS = 8_000;

export interface Ec2CheckOptions {
  readonly clock: Clock;
  /** Where AWS is and who asks it. Left out: as its SDK finds it. */
  readonly aws?: Pick<AwsRegionOptions, 'credentials' | 'endpoints' | 'ca'> | undefined;
}

/** Whether AWS can be asked for instances; the way to one of them is shown by a look at its workspace. */
export function ec2Checks(
  { ec2 }: Pick<Config, 'ec2'>,
  declarations: Promise<Declarations>,
  { clock, aws }: Ec2CheckOptions,
): readonly Check[] {
  const known = declarations.catch(() => undefined);
  return [
    ...ec2.regions.map(({ name }) => ({
      name: `ec2 ${name}`,
      look: async (signal: AbortSignal): Promise<Seen> => {
        const requestTimeoutMs = REQUEST_TIMEOUT_MS;
        const region = new AwsRegion({ ...aws, region: name, fips: ec2.fips, clock, requestTimeoutMs });
        try {
          const { tag } = ec2.rules;
          const instances = await region.instances([{ Name: 'tag-key', Values: [tag] }], signal);
          const running = instances.filter(({ state }) => state === 'running').length;
          return ok(`${countOf(instances.length, 'instance')} tagged ${tag}, ${running} of them running`);
        } finally {
          region.close();
        }
      },
    })),
    {
      name: 'ec2 regions',
      look: async (): Promise<readonly Seen[]> => {
        if (ec2.regions.length > 0 || (await known)?.hasInstances !== true) return [];
        return [
          fail('workspaces are EC2 instances, and no region is allowed', 'Say in which they are: targets.ec2.regions.'),
        ];
      },
    },
  ];
}
