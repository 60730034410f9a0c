import type { Counter, Histogram } from 'prom-client';

import type { AwsAction, AwsOutcome, LoginOutcome, TunnelState } from '../../ports/metrics.ts';
import { AWS_BUCKETS, TUNNEL_WAIT_BUCKETS } from './buckets.ts';
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

const ASKED = { region: { named: 'each region' }, action: { late: AWS_ACTIONS }, outcome: { late: AWS_OUTCOMES } };
const ENDPOINT = { endpoint: { named: 'each EC2 Instance Connect endpoint with tunnels of plugset' } };

/** What is counted of hosts and of the way to them: AWS, tunnels, connections. No host has a series of its own. */
export class HostMetrics {
  readonly #requests: Counter;
  readonly #requestSeconds: Histogram;
  readonly #waits: Histogram;
  readonly #logins: Counter;
  readonly #regions = new Set<string>();
  #readTunnels: () => readonly TunnelState[] = () => [];
  #readSessions: () => number = () => 0;

  constructor(make: Instruments) {
    this.#requests = make.counter(
      'plugset_aws_requests_total',
      'Questions to AWS, by what was asked and how it ended; their pages and repetitions are one.',
      ASKED,
    );
    this.#requestSeconds = make.seconds(
      'plugset_aws_request_duration_seconds',
      'How long the same questions took, until they were answered or given up.',
      AWS_BUCKETS,
      ASKED,
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

  /** Every count of a region begins at 0 with the first question there. */
  asked(region: string, action: AwsAction, outcome: AwsOutcome, seconds: number): void {
    if (!this.#regions.has(region)) {
      this.#regions.add(region);
      for (const one of AWS_ACTIONS) {
        for (const other of AWS_OUTCOMES) this.#requests.inc({ region, action: one, outcome: other }, 0);
      }
    }
    this.#requests.inc({ region, action, outcome });
    this.#requestSeconds.observe({ region, action, outcome }, seconds);
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
