/*
 * Upper bounds in seconds, close together where the times lie that were measured (README, `npm run bench`) and far apart
 * up to the deadline of what is measured. Each bucket is a series for every combination of labels.
 */

/** Passes, and keys in the queue: from one that only asked for a token to one that waited out its deadline. */
export const PASS_BUCKETS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600,
];

/** A probe is about 4 ms, an exec about 50 ms, a first converge 100 to 200 ms; a pass waits 5 s for a source. */
export const PHASE_BUCKETS = [
  0.001, 0.0025, 0.004, 0.006, 0.01, 0.025, 0.04, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5, 15, 60, 300, 600,
];

/** Requests to an engine on this machine take about 1 ms, starting an exec about 40 ms; each is given up after 10 s. */
export const ENGINE_BUCKETS = [0.0005, 0.001, 0.002, 0.004, 0.01, 0.025, 0.04, 0.06, 0.1, 0.25, 1, 2.5, 5, 10];

/**
 * Most questions are answered in a tenth to half a second, a tunnel opens in less than one; one that is answered after the
 * repetitions of a throttled request takes seconds. All are given up after 20 s at the latest.
 */
export const AWS_BUCKETS = [0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1, 2.5, 5, 10, 20];

/** A place is had at once, or after somebody else's command; who waits for longer than 20 s gives up. */
export const TUNNEL_WAIT_BUCKETS = [0.001, 0.01, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20];

/** A local registry answers in about 1 ms, a forge in a tenth to some seconds; it has a minute. */
export const RESOLVE_BUCKETS = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60];

/** Cloning a commit takes from seconds to its deadline of three minutes. */
export const FETCH_BUCKETS = [0.01, 0.05, 0.25, 1, 2.5, 5, 10, 20, 30, 60, 90, 120, 180, 300];

/** A pooled connection answers in some milliseconds, a busy API server queues for up to 15 s; a page of a list has a minute. */
export const KUBE_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60];

/** An edit is on the disk after a fraction of a second; one for a stopped workspace waits for days. */
export const LAG_BUCKETS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 14_400, 86_400];
