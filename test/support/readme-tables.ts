import { z } from 'zod';

import type { MetricEntry } from '../../src/adapters/telemetry/instruments.ts';
import { PrometheusMetrics } from '../../src/adapters/telemetry/prometheus-metrics.ts';
import { defaultAt, SETTING_OPTIONS, type SettingOption } from '../../src/config/options.ts';
import { ADVICE } from '../../src/domain/advice.ts';
import { REASONS, type Reason } from '../../src/domain/reason.ts';
import { DEFAULT_POLICY, workspaceSpecSchema, type Policy } from '../../src/domain/workspace.ts';
import { valuesOf } from './exposition.ts';

/** README with each table between `<!-- table: NAME -->` and `<!-- end -->` written anew from what the code exports. */
export async function withTables(readme: string): Promise<string> {
  const tables: Readonly<Record<string, string>> = {
    options: table(['option', 'environment', 'in the file', 'default', ''], optionRows()),
    policy: table(['policy', 'values', ''], policyRows()),
    reasons: table(
      ['reason', 'meaning', 'what to do'],
      Object.entries(REASONS).map(([reason, text]) => [code(reason), text, ADVICE[reason as Reason]]),
    ),
    metrics: table(['metric', 'type', 'labels and their values', ''], metricRows()),
  };
  return readme.replaceAll(
    /(<!-- table: (\w+) -->\n)[^]*?(<!-- end -->)/g,
    (_, start: string, name: string, end: string) => {
      const text = tables[name];
      if (text === undefined) throw new Error(`README asks for the table ${name}, which nobody makes`);
      return `${start}${text}${end}`;
    },
  );
}

function optionRows(): readonly Row[] {
  const row = ({ flags, variable, path, fallback, description }: SettingOption): Row => [
    code(flags),
    code(variable),
    code(path.join('.')),
    fallback ?? code(defaultAt(path) ?? ''),
    description,
  ];
  return SETTING_OPTIONS.map(row);
}

function policyRows(): readonly Row[] {
  const { properties = {} } = z.toJSONSchema(workspaceSpecSchema.shape.policy.unwrap()) as JsonSchema;
  return Object.entries(properties).map(([name, { enum: values = [], description = '' }]) => {
    const isDefault = (value: string): boolean => DEFAULT_POLICY[name as keyof Policy] === value;
    const shown = values.map((value) => (isDefault(value) ? `**${code(value)}**` : code(value)));
    return [code(name), shown.join(', '), description];
  });
}

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly enum?: readonly string[];
  readonly description?: string;
}

/** Without those that prom-client has of every Node process. */
function metricRows(): readonly Row[] {
  const { catalogue } = new PrometheusMetrics({ version: '0', perWorkspace: true });
  const isOurs = ({ name }: MetricEntry): number => (name.startsWith('plugset_') ? 1 : 0);
  return catalogue
    .toSorted((a, b) => isOurs(a) - isOurs(b))
    .map((entry) => {
      const labels = Object.keys(entry.labels).map((label) => `${code(label)}: ${labelText(entry, label)}`);
      return [code(entry.name), entry.type, labels.join('; '), entry.help];
    });
}

function labelText(entry: MetricEntry, label: string): string {
  const values = valuesOf(entry, label) ?? [];
  if (values === 'named') return (entry.labels[label] as { readonly named: string }).named;
  return values.length === Object.keys(REASONS).length ? 'the reasons above' : values.join(', ');
}

type Row = readonly string[];

function table(headers: Row, rows: readonly Row[]): string {
  const lines = [headers, headers.map(() => '---'), ...rows];
  return lines
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', String.raw`\|`)).join(' | ')} |\n`)
    .join('');
}

function code(text: string): string {
  return text === '' ? '' : `\`${text}\``;
}
