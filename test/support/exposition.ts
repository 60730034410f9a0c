import type { MetricEntry } from '../../src/adapters/telemetry/instruments.ts';

/** One metric of a scrape. */
export interface MetricFamily {
  readonly name: string;
  readonly type: string;
  /** Names of the labels of its samples, sorted; `le` and `quantile` left out. */
  readonly labels: readonly string[];
}

// prom-client writes `Nan`; Prometheus reads it in any case.
const LINE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([-+]?(?:\d[\d.e+-]*|Inf|nan))$/i;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/g;

/**
 * Parses the text format of Prometheus strictly and checks what `promtool check metrics` does: HELP and TYPE for every
 * metric, counters that end in `_total`, base units, no sample twice, no metric in two pieces.
 */
export function lintExposition(text: string): {
  readonly families: readonly MetricFamily[];
  readonly problems: readonly string[];
} {
  const families = new Map<string, { type: string; hasHelp: boolean; labels: Set<string> }>();
  const seen = new Set<string>();
  const problems: string[] = [];
  let current = '';
  for (const line of text.split('\n')) {
    const comment = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line);
    if (comment !== null) {
      const [, kind = '', name = '', rest = ''] = comment;
      if (kind === 'HELP' && families.has(name)) problems.push(`${name} comes in two pieces`);
      const family = families.get(name) ?? { type: '', hasHelp: false, labels: new Set<string>() };
      families.set(name, kind === 'HELP' ? { ...family, hasHelp: true } : { ...family, type: rest });
      current = name;
    } else if (line !== '') {
      const family = families.get(current);
      const sample = LINE.exec(line);
      const [, name = '', labels = ''] = sample ?? [];
      if (sample === null || family === undefined) problems.push(`not a sample: ${line}`);
      else if (
        name !== current &&
        !(family.type === 'histogram' && belongsTo(name, current)) &&
        family.type !== 'summary'
      ) {
        problems.push(`${name} stands under ${current}`);
      }
      if (seen.has(`${name}{${labels}}`)) problems.push(`twice: ${name}{${labels}}`);
      seen.add(`${name}{${labels}}`);
      if (labels.replaceAll(LABEL, '') !== '') problems.push(`bad labels: ${line}`);
      for (const [, label = ''] of labels.matchAll(LABEL))
        if (label !== 'le' && label !== 'quantile') family?.labels.add(label);
    }
  }
  for (const [name, { type, hasHelp }] of families) problems.push(...lintFamily(name, type, hasHelp));
  return {
    families: [...families].map(([name, { type, labels }]) => ({ name, type, labels: [...labels].toSorted() })),
    problems,
  };
}

/**
 * Every value of every label of the metrics in a catalogue, and what is there besides the values that it lists.
 * What it calls named is not judged here.
 */
export function labelValues(
  text: string,
  catalogue: readonly MetricEntry[],
): { readonly values: ReadonlyMap<string, ReadonlySet<string>>; readonly problems: readonly string[] } {
  const entries = new Map(catalogue.map((entry) => [entry.name, entry]));
  const values = new Map<string, Set<string>>();
  const problems: string[] = [];
  for (const line of text.split('\n')) {
    const [, sample = '', labels = ''] = LINE.exec(line) ?? [];
    const entry = entries.get(sample) ?? entries.get(sample.replace(/_(?:bucket|sum|count)$/, ''));
    if (entry === undefined) continue;
    for (const [, label = '', value = ''] of labels.matchAll(LABEL)) {
      const allowed = valuesOf(entry, label);
      if (label === 'le' || allowed === 'named' || allowed?.includes(value)) {
        values.set(label, (values.get(label) ?? new Set()).add(value));
      } else problems.push(`${line}: ${value} is no value of ${label}`);
    }
  }
  return { values, problems };
}

/** What a label of a metric can say; `undefined` when there is no such label. */
export function valuesOf({ labels }: MetricEntry, label: string): readonly string[] | 'named' | undefined {
  const values = labels[label];
  if (values === undefined) return undefined;
  if ('named' in values) return 'named';
  return 'late' in values ? values.late : values;
}

function belongsTo(sample: string, histogram: string): boolean {
  return ['_bucket', '_sum', '_count'].some((suffix) => sample === histogram + suffix);
}

function* lintFamily(name: string, type: string, hasHelp: boolean): Generator<string> {
  if (!hasHelp) yield `${name} has no HELP`;
  if (!['counter', 'gauge', 'histogram', 'summary'].includes(type)) yield `${name} has no TYPE`;
  // The metrics of the Node process are prom-client's, and some of their names are older than the rule.
  if (/^(nodejs|process)_/.test(name)) return;
  if ((type === 'counter') !== name.endsWith('_total')) yield `${name} is a ${type}: only counters end in _total`;
  if (/_(ms|milliseconds|minutes|kb|mb)(_|$)/.test(name)) yield `${name} is not in base units`;
}
