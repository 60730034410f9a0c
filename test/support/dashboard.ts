import { readFile } from 'node:fs/promises';

const PATH = new URL('../../manifests/grafana/plugset.json', import.meta.url);

export interface DashboardQuery {
  readonly panel: string;
  /** With the variables of Grafana still in it. */
  readonly expression: string;
}

interface Panel {
  readonly id: number;
  readonly title: string;
  readonly description?: string;
  readonly gridPos: Readonly<Record<'x' | 'y' | 'w' | 'h', number>>;
  readonly targets?: readonly { readonly expr: string }[];
}

export async function dashboardPanels(): Promise<readonly Panel[]> {
  const { panels } = JSON.parse(await readFile(PATH, 'utf8')) as { readonly panels: readonly Panel[] };
  return panels;
}

/** Every query of the dashboard, by the panel that shows its answer. */
export async function dashboardQueries(): Promise<readonly DashboardQuery[]> {
  const panels = await dashboardPanels();
  return panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ panel: title, expression: expr })));
}

/** As Grafana asks with everything selected. */
export function withVariables(expression: string, rateInterval: string): string {
  return expression.replaceAll(/\$(?:job|instance)\b/g, '.+').replaceAll('$__rate_interval', rateInterval);
}
