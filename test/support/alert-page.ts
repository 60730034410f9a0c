import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { parse } from 'yaml';

const DIRECTORY = new URL('../../manifests/prometheus/', import.meta.url);
export const ALERT_RULES = fileURLToPath(new URL('plugset.rules.yaml', DIRECTORY));
export const ALERT_RULE_TESTS = fileURLToPath(new URL('plugset.rules.test.yaml', DIRECTORY));
export const ALERT_PAGE = fileURLToPath(new URL('README.md', DIRECTORY));

export interface AlertRule {
  readonly alert: string;
  readonly expr: string;
  /** Left out: at once. */
  readonly for?: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string };
}

export async function alertRules(): Promise<readonly AlertRule[]> {
  const { groups } = parse(await readFile(ALERT_RULES, 'utf8')) as {
    readonly groups: readonly { readonly rules: readonly AlertRule[] }[];
  };
  return groups.flatMap(({ rules }) => rules);
}

/** The page about alerts with everything between `<!-- alerts -->` and `<!-- end -->` written anew from the rules. */
export function withAlerts(page: string, rules: readonly AlertRule[]): string {
  const text = rules.map((rule) => `\n${sectionOf(rule)}\n`).join('');
  return page.replace(/(<!-- alerts -->\n)[^]*?(<!-- end -->)/, (_, start: string, end: string) => start + text + end);
}

function sectionOf(rule: AlertRule): string {
  const { severity } = rule.labels;
  const when = rule.for === undefined ? severity : `${severity}, after ${rule.for}`;
  return [
    `## ${rule.alert}`,
    `_${when}_`,
    rule.annotations.description,
    `\`\`\`promql\n${rule.expr.trimEnd()}\n\`\`\``,
  ].join('\n\n');
}
