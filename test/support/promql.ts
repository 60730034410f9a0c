import type { MetricEntry } from '../../src/adapters/telemetry/instruments.ts';
import { valuesOf } from './exposition.ts';

const WORDS = new Set(['by', 'on', 'without', 'ignoring', 'and', 'or', 'unless', 'bool', 'offset']);
const FUNCTIONS = new Set([
  'sum',
  'max',
  'min',
  'count',
  'absent',
  'rate',
  'increase',
  'last_over_time',
  'time',
  'histogram_quantile',
]);
/** Of the scrape, not of the metric. */
const TARGET_LABELS = ['job', 'instance'];
/** Made by Prometheus, or by prom-client of every Node process. */
const NOT_OURS = /^(?:up|ALERTS|process_\w+|nodejs_\w+)$/;

const SELECTOR = /([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})?/g;
const MATCHER = /^\s*(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*$/;
const GROUPING = /\b(by|on|without|ignoring)\s*\(([^)]*)\)/g;

/**
 * What an expression asks for that a catalogue of metrics does not have: metrics, labels, values of labels. Reads the
 * few forms that our alerts and queries are written in, and no more of PromQL.
 */
export function promqlProblems(expression: string, catalogue: readonly MetricEntry[]): readonly string[] {
  const problems: string[] = [];
  const entries: MetricEntry[] = [];
  let asked = 0;
  const rest = expression.replaceAll(GROUPING, '').replaceAll(/\[\w+\]/g, '');
  for (const [, name = '', matchers] of rest.matchAll(SELECTOR)) {
    if (matchers === undefined && (WORDS.has(name) || FUNCTIONS.has(name))) continue;
    asked += 1;
    if (NOT_OURS.test(name)) continue;
    const entry = findEntry(name, catalogue);
    if (entry === undefined) problems.push(`there is no metric ${name}`);
    else {
      entries.push(entry);
      for (const matcher of matchers?.split(',') ?? []) problems.push(...matcherProblems(matcher, entry));
    }
  }
  if (asked === 0) problems.push('it asks for no metric');
  for (const [, , labels = ''] of expression.matchAll(GROUPING)) {
    for (const label of labels.split(',').map((one) => one.trim())) {
      if (label === '') continue;
      const isThere = TARGET_LABELS.includes(label) || entries.some((entry) => hasLabel(entry, label));
      if (!isThere) problems.push(`none of its metrics has a label ${label}`);
    }
  }
  return problems;
}

function findEntry(name: string, catalogue: readonly MetricEntry[]): MetricEntry | undefined {
  const base = name.replace(/_(?:bucket|sum|count)$/, '');
  return catalogue.find((entry) =>
    entry.type === 'histogram' ? entry.name === base && base !== name : entry.name === name,
  );
}

function hasLabel(entry: MetricEntry, label: string): boolean {
  return label in entry.labels || (label === 'le' && entry.type === 'histogram');
}

function* matcherProblems(text: string, entry: MetricEntry): Generator<string> {
  const [, label = '', operator = '', pattern = ''] = MATCHER.exec(text) ?? [];
  if (TARGET_LABELS.includes(label)) return;
  const values = valuesOf(entry, label);
  if (values === undefined) yield `${entry.name} has no label ${label === '' ? text : label}`;
  else if (values !== 'named') {
    const asked = operator.endsWith('~') ? pattern.split('|') : [pattern];
    for (const value of asked) if (!values.includes(value)) yield `${entry.name} never has ${label}="${value}"`;
  }
}
