import { Ec2TargetProvider } from '../../src/adapters/aws/ec2-target-provider.ts';
import { PooledSshHosts } from '../../src/adapters/ssh/pooled-ssh-hosts.ts';
import { DEFAULT_EC2_ACCESS, type Ec2Access } from '../../src/domain/access.ts';
import { BUILT_IN_PROFILES, type RuntimeProfile } from '../../src/domain/profile.ts';
import type { ControllerState } from '../../src/ports/controller-state.ts';
import type { Metrics } from '../../src/ports/metrics.ts';
import type { FakeAws } from './aws/fake-aws.ts';
import { LeapingClock } from './leaping-clock.ts';
import { MemoryControllerState } from './memory-state.ts';

export interface Ec2HostsOptions {
  readonly access?: Partial<Ec2Access>;
  readonly profiles?: readonly RuntimeProfile[];
  readonly state?: ControllerState;
  readonly requestTimeoutMs?: number;
  readonly metrics?: Metrics;
}

/** What a controller has that reaches instances of the stand-in. */
export class Ec2Hosts {
  readonly provider: Ec2TargetProvider;
  readonly #hosts: PooledSshHosts;
  readonly #clock = new LeapingClock();

  constructor(aws: FakeAws, options: Ec2HostsOptions = {}) {
    const { state = new MemoryControllerState(), profiles = BUILT_IN_PROFILES, requestTimeoutMs, metrics } = options;
    const clock = this.#clock;
    this.#hosts = new PooledSshHosts({ state: () => state, clock, metrics });
    const { accessKeyId, secretAccessKey, sessionToken = '' } = aws.credentials;
    this.provider = new Ec2TargetProvider({
      access: {
        ...DEFAULT_EC2_ACCESS,
        regions: [{ name: aws.region }],
        ...options.access,
      },
      profiles,
      hosts: this.#hosts,
      clock,
      metrics,
      aws: {
        credentials: { accessKeyId, secretAccessKey, sessionToken },
        endpoints: { ec2: aws.url, instanceConnect: aws.url },
        ca: aws.ca,
        requestTimeoutMs,
      },
    });
  }

  /** From here on, nothing is believed of instances that AWS said before. */
  doubt(): void {
    this.#clock.leap(5_000);
  }

  async close(): Promise<void> {
    await this.provider.close();
    await this.#hosts.close();
  }
}
