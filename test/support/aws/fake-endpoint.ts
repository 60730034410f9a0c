import { randomBytes } from 'node:crypto';

/** An EC2 Instance Connect Endpoint. All of them are served at one address and told apart by their id. */
export interface FakeEndpoint {
  readonly id: string;
  readonly vpcId: string;
  readonly subnetId: string;
  /** `create-in-progress`, `create-complete`, `update-failed`, `delete-in-progress` … */
  state: string;
  dnsName: string;
  /** Empty, as AWS says it, where there is none. */
  fipsDnsName: string;
  ipAddressType: 'ipv4' | 'dualstack' | 'ipv6';
}

export function fakeEndpoint(address: string, options: Partial<FakeEndpoint> = {}): FakeEndpoint {
  return {
    id: `eice-0${randomBytes(8).toString('hex')}`,
    vpcId: 'vpc-1',
    subnetId: 'subnet-1',
    state: 'create-complete',
    dnsName: address,
    fipsDnsName: '',
    ipAddressType: 'ipv4',
    ...options,
  };
}
