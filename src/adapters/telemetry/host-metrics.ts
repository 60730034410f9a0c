import type { Counter, Histogram } from 'prom-client';

import type { AwsAction, AwsOutcome, LoginOutcome, TunnelState } from '../../ports/metrics.ts';
import { TUNNEL_WAIT_BUCKETS } from './buckets.ts';
import type { Instruments } from './instruments.ts';

const AWS_ACTIONS: readonly AwsAction[] = [
  'DescribeInstances',
  'DescribeInstanceConnectEndpoints',
  'GetConsoleOutput',
  'SendSSHPublicKey',
  'OpenTunnel',
];
const AWS_OUTCOMES: readonly AwsOutcome[] = ['ok', 'denied', 'throttled', 'refused', 'unanswered', 'called_off'];
const LOGIN_OUTCOMES: readonly LoginOutcome[] = ['ok', 'not_let_in', 'host_key', 'failed', 'called_off'];

const ENDPOINT = { endpoint: { named: 'each EC2 Instance Connect endpoint with tunnels of plugset' } };

/** What is counted of hosts and of the way to them: AWS, tunnels, connections. No host has a series of its own. */
export class HostMetrics {
  readonly #requests: Counter;
  readonly #waits: Histogram;
  readonly #logins: Counter;
  readonly #regions = new Set<string>();
  #readTunnels: () => readonly TunnelState[] = () => [];
  #readSessions: () => number = () => 0;

  constructor(make: Instruments) {
    this.#requests = make.counter(
      'plugset_aws_requests_total',
      'Questions to AWS, by what was asked and how it ended; their pages and repetitions are one.',
      { region: { named: 'each region' }, action: { late: AWS_ACTIONS }, outcome: { late: AWS_OUTCOMES } },
    );
    make.readGauge('plugset_tunnels_open', 'Tunnels through EC2 Instance Connect endpoints.', ENDPOINT, (gauge) => {
      for (const { endpoint, open } of this.#readTunnels()) gauge.set({ endpoint }, open);
    });
    make.readGauge('plugset_tunnels_limit', 'How many of them plugset opens at most.', ENDPOINT, (gauge) => {
      for (const { endpoint, limit } of this.#readTunnels()) gauge.set({ endpoint }, limit);
    });
    this.#waits = make.seconds(
      'plugset_tunnel_wait_seconds',
      'How long workspaces waited until they could have a tunnel, or gave up.',
      TUNNEL_WAIT_BUCKETS,
    );
    make.readGauge(
      'plugset_ssh_sessions',
      'Connections to hosts that stand, those through tunnels included.',
      {},
      (gauge) => gauge.set(this.#readSessions()),
    );
    this.#logins = make.counter(
      'plugset_ssh_logins_total',
      'Connections to hosts that were tried, by what came of it.',
      {
        outcome: LOGIN_OUTCOMES,
      },
    );
  }

  /** Every series of a region begins at 0 with the first question there. */
  asked(region: string, action: AwsAction, outcome: AwsOutcome): void {
    if (!this.#regions.has(region)) {
      this.#regions.add(region);
      for (const one of AWS_ACTIONS) {
        for (const other of AWS_OUTCOMES) this.#requests.inc({ region, action: one, outcome: other }, 0);
      }
    }
    this.#requests.inc({ region, action, outcome });
  }

  waited(seconds: number): void {
    this.#waits.observe(seconds);
  }

  loggedIn(outcome: LoginOutcome): void {
    this.#logins.inc({ outcome });
  }

  observeTunnels(read: () => readonly TunnelState[]): void {
    this.#readTunnels = read;
  }

  observeSessions(read: () => number): void {
    this.#readSessions = read;
  }
}
