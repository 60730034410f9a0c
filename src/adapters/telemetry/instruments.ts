import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/** The labels of a metric with the values that are known beforehand; an empty list where they are not. */
export type Labels = Readonly<Record<string, readonly string[]>>;

/** From a pass that only asked for a token to one that waited out its deadline. */
const DURATION_BUCKETS: number[] = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600,
];

/**
 * Makes metrics in one registry. Every series whose labels are known is there, with 0, from the first scrape on: a rate
 * over a series that appears with its first error is blind to that error.
 */
export class Instruments {
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  counter(name: string, help: string, labels: Labels = {}): Counter {
    const counter = new Counter({ name, help, labelNames: Object.keys(labels), registers: [this.#registry] });
    for (const series of combinations(labels)) counter.inc(series, 0);
    return counter;
  }

  /** A counter whose truth is elsewhere: `read` puts the numbers in at each scrape. */
  readCounter(name: string, help: string, labels: Labels, read: (counter: Counter) => void): Counter {
    return new Counter({
      name,
      help,
      labelNames: Object.keys(labels),
      registers: [this.#registry],
      collect() {
        this.reset();
        read(this);
      },
    });
  }

  gauge(name: string, help: string, labels: Labels = {}): Gauge {
    const gauge = new Gauge({ name, help, labelNames: Object.keys(labels), registers: [this.#registry] });
    for (const series of combinations(labels)) gauge.set(series, 0);
    return gauge;
  }

  /** A gauge that `read` fills anew at each scrape, so that nothing is left of what is gone. */
  readGauge(name: string, help: string, labels: Labels, read: (gauge: Gauge) => void): Gauge {
    return new Gauge({
      name,
      help,
      labelNames: Object.keys(labels),
      registers: [this.#registry],
      collect() {
        this.reset();
        for (const series of combinations(labels)) this.set(series, 0);
        read(this);
      },
    });
  }

  seconds(name: string, help: string, labels: Labels = {}): Histogram {
    const histogram = new Histogram({
      name,
      help,
      labelNames: Object.keys(labels),
      buckets: DURATION_BUCKETS,
      registers: [this.#registry],
    });
    for (const series of combinations(labels)) histogram.zero(series);
    return histogram;
  }
}

/** Every combination of label values; none when a label has no known values, and the one empty one without labels. */
function combinations(labels: Labels): readonly Record<string, string>[] {
  return Object.entries(labels).reduce<Record<string, string>[]>(
    (series, [label, values]) => series.flatMap((one) => values.map((value) => ({ ...one, [label]: value }))),
    [{}],
  );
}
