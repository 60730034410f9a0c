import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/**
 * What a label can say. A list: each of these series is there, with 0, from the first scrape on. `late`: these and no
 * other, each from the first time it happens. `named`: one for each of what it says, in the words of a person; people declare them, or
 * configure them, one by one.
 */
export type LabelValues = readonly string[] | { readonly late: readonly string[] } | { readonly named: string };

/** The labels of a metric with their values. There is no way to make a label whose values have no bound. */
export type Labels = Readonly<Record<string, LabelValues>>;

/** One metric as people are told of it. */
export interface MetricEntry {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels: Labels;
}

/** What fills a gauge at a scrape. */
export interface Readings {
  set(value: number): void;
  set(series: Series, value: number): void;
  inc(series: Series, by?: number): void;
}

type Series = Readonly<Record<string, string | number>>;

/**
 * prom-client sorts and hashes the labels with every `inc`: for the plugins of a large fleet that takes the better part of
 * a second in one piece, in which nothing else happens in this process.
 */
class Sums {
  readonly #sums = new Map<string, { readonly series: Series; sum: number }>();

  add(series: Series, by = 1): void {
    const key = Object.values(series).join(' ');
    const known = this.#sums.get(key);
    if (known === undefined) this.#sums.set(key, { series, sum: by });
    else known.sum += by;
  }

  all(): Iterable<{ readonly series: Series; readonly sum: number }> {
    return this.#sums.values();
  }
}

/**
 * Makes metrics in one registry, and keeps the list of them. Every series whose labels are known is there, with 0, from
 * the first scrape on: a rate over a series that appears with its first error is blind to that error.
 */
export class Instruments {
  readonly #registry: Registry;
  readonly catalogue: MetricEntry[] = [];

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  counter(name: string, help: string, labels: Labels = {}): Counter {
    const counter = new Counter(this.#enter('counter', name, help, labels));
    for (const series of combinations(labels)) counter.inc(series, 0);
    return counter;
  }

  /** A counter whose truth is elsewhere: `read` puts the numbers in at each scrape. */
  readCounter(name: string, help: string, labels: Labels, read: (counter: Counter) => void): Counter {
    return new Counter({
      ...this.#enter('counter', name, help, labels),
      collect() {
        this.reset();
        read(this);
      },
    });
  }

  gauge(name: string, help: string, labels: Labels = {}): Gauge {
    const gauge = new Gauge(this.#enter('gauge', name, help, labels));
    for (const series of combinations(labels)) gauge.set(series, 0);
    return gauge;
  }

  /**
   * A gauge that `read` fills anew at each scrape, so that nothing is left of what is gone. While `isKnown` says no there
   * are no series at all: nobody takes what is unknown for 0.
   */
  readGauge(
    name: string,
    help: string,
    labels: Labels,
    read: (gauge: Readings) => void,
    isKnown: () => boolean = () => true,
  ): Gauge {
    return new Gauge({
      ...this.#enter('gauge', name, help, labels),
      collect() {
        this.reset();
        // A reset leaves a 0 where there are no labels.
        if (Object.keys(labels).length === 0) this.remove();
        if (!isKnown()) return;
        for (const series of combinations(labels)) this.set(series, 0);
        const sums = new Sums();
        read({
          set: (...args: [number] | [Series, number]) => (args.length === 1 ? this.set(...args) : this.set(...args)),
          inc: (series, by) => sums.add(series, by),
        });
        for (const { series, sum } of sums.all()) this.inc(series, sum);
      },
    });
  }

  seconds(name: string, help: string, buckets: readonly number[], labels: Labels = {}): Histogram {
    const histogram = new Histogram({ ...this.#enter('histogram', name, help, labels), buckets: [...buckets] });
    for (const series of combinations(labels)) histogram.zero(series);
    return histogram;
  }

  #enter(
    type: MetricEntry['type'],
    name: string,
    help: string,
    labels: Labels,
  ): { name: string; help: string; labelNames: string[]; registers: Registry[] } {
    this.catalogue.push({ name, type, help, labels });
    return { name, help, labelNames: Object.keys(labels), registers: [this.#registry] };
  }
}

/** Every combination of label values; none when a label has none that are known beforehand, the one empty one without labels. */
function combinations(labels: Labels): readonly Record<string, string>[] {
  return Object.entries(labels).reduce<Record<string, string>[]>(
    (series, [label, values]) =>
      series.flatMap((one) => (isPreset(values) ? values.map((value) => ({ ...one, [label]: value })) : [])),
    [{}],
  );
}

function isPreset(values: LabelValues): values is readonly string[] {
  return Array.isArray(values);
}
