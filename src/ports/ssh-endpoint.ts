import type { Duplex } from 'node:stream';

import type { Activation } from '../domain/profile.ts';
import type { StreamDialer } from './stream-dialer.ts';
import type { WorkspaceTarget } from './workspace-target.ts';

/** A host that is reached by SSH, whatever leads to it. */
export interface SshEndpoint {
  /** Two endpoints with one id share a connection, so it says who logs in, how, and which keys of the host are believed. */
  readonly id: string;
  /** For people: `host ubuntu@agents.example.com`. */
  readonly description: string;
  /** What stands behind the name, where somebody vouches for it (an instance id). Left out: its host key, so it is connected to. */
  readonly identity?: string;
  readonly user: string;
  readonly dialer: StreamDialer;
  /** Asked once the stream is open, right before the handshake: a key may be good for a minute only. */
  credential(signal: AbortSignal): Promise<SshCredential>;
  readonly hostKeys: HostKeyPolicy;
  /** From this age on a connection takes no new command, and another one is made. Left out: it may grow old. */
  readonly maxAgeMs?: number;
}

export type SshCredential =
  /** OpenSSH or PEM, without a passphrase. Kept in memory only. */
  | {
      readonly kind: 'key';
      /** For people: where it came from. */
      readonly origin: string;
      readonly privateKey: string;
      /** Good for this login only, if the host has heard of it in time: when it is refused (`LoginKeyRefused`), another may do. */
      readonly isShortLived?: boolean;
    }
  /** Socket of an agent. */
  | { readonly kind: 'agent'; readonly socket: string };

/** A public key of a host. */
export interface HostKey {
  /** `ssh-ed25519` */
  readonly type: string;
  /** Its blob, in base64. */
  readonly key: string;
}

/** Which keys are believed to be the host's. */
export interface HostKeyPolicy {
  /** What the pin is kept under, and what people name it by: `agents.example.com`, `[::1]:2222`, `i-0123456789abcdef0`. */
  readonly name: string;
  /** An address of the host (`TargetProvider.addresses`) that is never given to another; left out where all are used again. */
  readonly address?: string;
  /** For people: the setting that this comes of, and who vouches. */
  readonly policy: string;
  readonly voucher: string;
  /**
   * The keys that somebody vouches for; none: nobody does. `whenUnpinned` is asked on first contact only; `always` before every
   * connection, and what it says goes above a pin. Throws `Unreachable`, `waiting` and the like where it is not known yet.
   */
  readonly ask: 'always' | 'whenUnpinned';
  vouchedFor(signal: AbortSignal): Promise<readonly HostKey[]>;
  /** Keys that are nobody's any more, whatever else speaks for them: a pin, or a first contact. Asked before every connection. */
  revoked?(signal: AbortSignal): Promise<readonly HostKey[]>;
  /** A host that is met for the first time and that nobody vouches for: `HostKeyUnknown`, or pinned as not verified. */
  readonly firstContact: 'strict' | 'tofu';
}

/** Makes workspaces of hosts. */
export interface SshHosts {
  /**
   * Connects where no connection stands, unless the endpoint has an identity: the first command does then. Throws `Unreachable` (transient), `AuthenticationFailed`, `HostKeyMismatch`,
   * `HostKeyUnknown` (terminal), `LoginKeyRefused` (transient), and what dialer, credential and policy of the endpoint throw.
   */
  locate(endpoint: SshEndpoint, activation: Activation | undefined, signal: AbortSignal): Promise<WorkspaceTarget>;
  /** Closes the connection of an endpoint as soon as nothing runs on it. `over`: only the one that was dialled so. */
  release(endpointId: string, over?: Duplex): void;
  close(): Promise<void>;
}
