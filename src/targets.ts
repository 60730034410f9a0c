import { Ec2TargetProvider, type Ec2TargetOptions } from './adapters/aws/ec2-target-provider.ts';
import { DirectoryTargetProvider } from './adapters/directory/directory-target-provider.ts';
import { DockerTargetProvider } from './adapters/docker/docker-target-provider.ts';
import { PodTargetProvider } from './adapters/kube/pod-target-provider.ts';
import type { PooledSshHosts } from './adapters/ssh/pooled-ssh-hosts.ts';
import { SshTargetProvider } from './adapters/ssh/ssh-target-provider.ts';
import type { Config } from './config.ts';
import { reachedEngines } from './engines.ts';
import type { Kube } from './kube.ts';
import type { Clock } from './ports/clock.ts';
import type { Logger } from './ports/logger.ts';
import type { Metrics } from './ports/metrics.ts';
import type { PathTrace } from './ports/path-trace.ts';
import type { TargetProvider } from './ports/workspace-target.ts';

export interface TargetWays {
  readonly sshHosts: PooledSshHosts;
  readonly kube: Kube;
  /** Where AWS is and who asks it. Left out: as its SDK finds it. */
  readonly aws: Ec2TargetOptions['aws'];
  readonly trace: PathTrace | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export interface Targets {
  readonly providers: readonly TargetProvider[];
  /** The one of them that keeps copies, for metrics; left out where others were given. */
  readonly pods?: PodTargetProvider;
}

/** Every kind of target that this build can reach. A new one is registered here and nowhere else. */
export function createTargets(config: Config, ways: TargetWays): Targets {
  const { sshHosts: hosts, kube, aws, trace, clock, logger, metrics } = ways;
  const { profiles } = config;
  const pods = new PodTargetProvider({ allowed: config.pods, client: kube.client, logger, metrics });
  const providers = [
    new DirectoryTargetProvider({ roots: config.roots, path: config.path, clock }),
    new DockerTargetProvider({
      engines: reachedEngines(config, hosts),
      rules: config.containerRules,
      clock,
      logger,
      metrics,
    }),
    new SshTargetProvider({ allowed: config.sshHosts, profiles, hosts }),
    new Ec2TargetProvider({ access: config.ec2, profiles, hosts, clock, aws, metrics, trace }),
    pods,
  ];
  return { providers, pods };
}
