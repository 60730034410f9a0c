import { splitWorkspaceKey, type WorkspaceKey } from './name.ts';

/*
 * Where workspaces may point: the operator's say (design section 6).
 */

/** For the workspaces of these namespaces only; left out: for all (in the configuration: see config/reserved.ts). */
export interface Reserved {
  readonly namespaces?: readonly string[] | undefined;
}

/** A directory below which directory targets may lie. */
export interface AllowedRoot extends Reserved {
  readonly path: string;
}

/** A Docker engine that workspaces may name. */
export interface AllowedEngine extends Reserved {
  readonly name: string;
  /** `unix:///path`, `tcp://host:port` or `ssh://[user@]host[:port][/path]`. */
  readonly address: string;
  /** Names of the containers that they may be, with `*` for any part; left out: whichever is proven to be theirs. */
  readonly containers?: readonly string[] | undefined;
}

/** Hosts that workspaces may name, and how they are logged in to. */
export interface AllowedHosts extends Reserved {
  /** Names or addresses, with `*` for any part. */
  readonly hosts: readonly string[];
  /** Who logs in. Left out: whom the workspace names. */
  readonly user?: string | undefined;
  /** Left out: what the workspace names, else 22. */
  readonly port?: number | undefined;
  /** File of a private key, without a passphrase. */
  readonly keyFile?: string | undefined;
  /** Socket of an agent that holds the key. */
  readonly agent?: string | undefined;
  /** Keys of the hosts, as OpenSSH keeps them. */
  readonly knownHostsFile?: string | undefined;
  /** What becomes of a host that nothing vouches for: it is refused, or its key is believed from then on. */
  readonly firstContact: 'strict' | 'tofu';
}

/** A file that holds a key or credentials. */
export interface CredentialFile extends Reserved {
  readonly file: string;
}

/** A file or variable of the controller that settings of plugins may refer to. */
export type AllowedSecret = Reserved & ({ readonly file: string } | { readonly env: string });

/** A region of AWS in which workspaces may be. */
export interface AllowedRegion extends Reserved {
  readonly name: string;
  /** The Instance Connect endpoint to go through; left out: that of the instance's subnet, else one of its VPC. */
  readonly endpoint?: string | undefined;
  /** Tags, all of them, of the instances that they may be; left out: whichever is proven to be theirs. */
  readonly tags?: Readonly<Record<string, string>> | undefined;
}

/** What proves that an instance is a workspace's, as the operator has decided. */
export interface InstanceRulesOptions {
  /** Tag that says for which workspace an instance was launched: `namespace/name`, or the workspace's id. */
  readonly tag: string;
  /** As for containers: whether the workspace's id proves anything. */
  readonly trustIds: boolean;
  /** Instances that are a workspace's on the operator's word, whatever they are tagged. */
  readonly instances: readonly {
    /** `namespace/name` */
    readonly workspace: string;
    readonly instanceId: string;
  }[];
}

/** EC2 instances that workspaces may be, and how they are reached. */
export interface Ec2Access {
  /** The first is meant where a workspace names none. */
  readonly regions: readonly AllowedRegion[];
  readonly rules: InstanceRulesOptions;
  /** Who logs in. */
  readonly user: string;
  /** What is believed of an instance that is met for the first time. */
  readonly hostKeys: 'strict' | 'console' | 'tofu';
  /** At most so many tunnels through one endpoint at a time; AWS allows 20. */
  readonly tunnelsPerEndpoint: number;
  /** As short as IAM demands it; left out: AWS's own longest, an hour. */
  readonly maxTunnelSeconds?: number | undefined;
  /** Whether AWS is asked at its FIPS endpoints. */
  readonly fips: boolean;
}

/** What is for nobody is there to be told of: a default that custom resources do not get. */
export function isForAnybody({ namespaces }: Reserved): boolean {
  return namespaces === undefined || namespaces.length > 0;
}

export function isFor(workspace: WorkspaceKey, { namespaces }: Reserved): boolean {
  return namespaces === undefined || namespaces.includes(splitWorkspaceKey(workspace).namespace);
}

/** What proves that a container is a workspace's, as the operator has decided. */
export interface ContainerRulesOptions {
  /** Label that says for which workspace a container was made: `namespace/name`, or the workspace's id. */
  readonly label: string;
  /** A container without the label is found as this and the first 12 characters of the workspace's id. */
  readonly namePrefix: string;
  /**
   * Whether the workspace's id proves anything, by label or by name. Whoever declares a workspace chooses it; where that
   * is not trusted, only the label with `namespace/name` counts, or `containers`.
   */
  readonly trustIds: boolean;
  /** Containers that are a workspace's on the operator's word, whatever they are labelled. */
  readonly containers: readonly {
    /** `namespace/name` */
    readonly workspace: string;
    readonly container: string;
    readonly engine: string;
  }[];
}

/** No region is allowed, so no instance. */
export const DEFAULT_EC2_ACCESS: Ec2Access = {
  regions: [],
  rules: { tag: 'plugset.dev/workspace', trustIds: true, instances: [] },
  user: 'ubuntu',
  hostKeys: 'console',
  tunnelsPerEndpoint: 16,
  fips: false,
};

export const DEFAULT_CONTAINER_RULES: ContainerRulesOptions = {
  label: 'plugset.dev/workspace',
  namePrefix: 'ws-',
  trustIds: true,
  containers: [],
};
