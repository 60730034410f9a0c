import { readFile } from 'node:fs/promises';

import { describe, expect, it } from 'vitest';

import { PrometheusMetrics } from '../../src/adapters/telemetry/prometheus-metrics.ts';
import { ALERT_PAGE, alertRules, withAlerts } from '../support/alert-page.ts';
import { dashboardPanels, dashboardQueries, withVariables } from '../support/dashboard.ts';
import { promqlProblems } from '../support/promql.ts';
import { runInProcess } from '../support/run-cli.ts';

const { catalogue } = new PrometheusMetrics({ version: '0', perWorkspace: true });
const rules = await alertRules();
const panels = await dashboardPanels();

/** Everything that a person is told to run. */
const commandsIn = (text: string): readonly string[] =>
  [...text.matchAll(/`plugset ([a-z]+)/g)].map(([, command = '']) => command);

async function unknownCommands(texts: readonly string[]): Promise<readonly string[]> {
  const { stdout } = await runInProcess(['--help']);
  const known = new Set([...stdout.matchAll(/^ {2}([a-z]+)/gm)].map(([, command]) => command));
  return texts.flatMap(commandsIn).filter((command) => !known.has(command));
}

describe('alert rules', () => {
  it.each(rules)('$alert is over metrics, labels and values that exist', ({ expr }) => {
    expect(promqlProblems(expr, catalogue)).toEqual([]);
  });

  it.each(rules)('$alert says how bad it is, what it means and what to do', ({ alert, labels, annotations }) => {
    expect(alert).toMatch(/^Plugset[A-Z]\w+$/);
    expect(['critical', 'warning', 'info']).toContain(labels.severity);
    expect(annotations.summary).toMatch(/^.{10,120}$/);
    // The page shows it as it is, so it must be whole without a value.
    expect(annotations.description).toMatch(/^[^{}\n]{100,}\.$/);
  });

  it('are told of on a page that is written from them (vitest -u writes it)', async () => {
    const page = await readFile(ALERT_PAGE, 'utf8');
    await expect(withAlerts(page, rules)).toMatchFileSnapshot(ALERT_PAGE);
  });

  it('name commands that exist', async () => {
    expect(await unknownCommands(rules.map(({ annotations }) => annotations.description))).toEqual([]);
    expect(await unknownCommands(['run `plugset nosuch`'])).toEqual(['nosuch']);
  });
});

describe('the dashboard', () => {
  it('asks for metrics, labels and values that exist', async () => {
    for (const { panel, expression } of await dashboardQueries())
      expect(promqlProblems(withVariables(expression, '1m'), catalogue), panel).toEqual([]);
  });

  it('names commands that exist', async () => {
    expect(await unknownCommands(panels.map(({ description = '' }) => description))).toEqual([]);
  });

  it('has panels with an id each, none over another, as wide as the page at most', () => {
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const cells = panels.flatMap(({ title, gridPos: { x, y, w, h } }) => {
      expect(x + w, title).toBeLessThanOrEqual(24);
      return Array.from({ length: w * h }, (_, cell) => `${x + (cell % w)}/${y + Math.floor(cell / w)}`);
    });
    expect(new Set(cells).size).toBe(cells.length);
  });
});

describe('the check of queries', () => {
  it('finds what does not exist', () => {
    const problems = (expression: string): readonly string[] => promqlProblems(expression, catalogue);
    expect(problems('plugset_gone > 0')).toEqual(['there is no metric plugset_gone']);
    expect(problems('plugset_converge_lag_seconds > 0')).toEqual(['there is no metric plugset_converge_lag_seconds']);
    expect(problems('plugset_workspaces{state="True"}')).toEqual(['plugset_workspaces has no label state']);
    expect(problems('plugset_workspaces{ready=~"True|No"}')).toEqual(['plugset_workspaces never has ready="No"']);
    expect(problems('sum by (engine) (plugset_workspaces)')).toEqual(['none of its metrics has a label engine']);
    expect(problems('time() > 0')).toEqual(['it asks for no metric']);
  });
});
