import type { Instance as DescribedInstance } from '@aws-sdk/client-ec2';

/** One instance, as much of it as plugset has a use for. */
export interface Instance {
  readonly id: string;
  /** AWS's own word: pending, running, shutting-down, terminated, stopping, stopped. */
  readonly state: string;
  readonly launchedAtMs: number;
  readonly vpcId: string | undefined;
  readonly subnetId: string | undefined;
  readonly ipv4: string | undefined;
  readonly ipv6: string | undefined;
  readonly tags: Readonly<Record<string, string>>;
}

export function instanceFrom(described: DescribedInstance): Instance {
  const { InstanceId = '', State, LaunchTime, VpcId, SubnetId, PrivateIpAddress, Tags = [] } = described;
  return {
    id: InstanceId,
    state: State?.Name ?? 'unknown',
    launchedAtMs: LaunchTime?.getTime() ?? 0,
    vpcId: VpcId,
    subnetId: SubnetId,
    ipv4: said(PrivateIpAddress),
    ipv6: said(described.Ipv6Address) ?? said(described.NetworkInterfaces?.[0]?.Ipv6Addresses?.[0]?.Ipv6Address),
    tags: Object.fromEntries(Tags.map(({ Key = '', Value = '' }) => [Key, Value])),
  };
}

/** AWS says some of what is not there as an empty string. */
function said(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}
