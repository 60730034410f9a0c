import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

import type { Backend } from './backend.ts';
import { eventually } from './eventually.ts';
import { freePort } from './free-port.ts';

/** Where the programs are; each test starts a server of its own, since it has targets and rules of its own. */
export async function findPrometheus(): Promise<Backend> {
  for (const dir of (process.env['PATH'] ?? '').split(delimiter)) {
    if ((await exists(join(dir, 'prometheus'))) && (await exists(join(dir, 'promtool'))))
      return { address: dir, how: `found in ${dir}`, stop: async () => undefined };
  }
  return { missing: 'there is no prometheus with promtool on PATH (Debian: prometheus)' };
}

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Alert {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly state: 'pending' | 'firing';
}

export interface TestPrometheus {
  /** The instant query now; what it answers with `NaN` is left out. */
  query(expression: string): Promise<readonly Sample[]>;
  firing(): Promise<readonly Alert[]>;
  stop(): Promise<void>;
}

export interface PrometheusOptions {
  /** Where the programs are. */
  readonly bin: string;
  /** An empty directory of its own. */
  readonly dir: string;
  /** `host:port` of what is scraped every second, by job. */
  readonly jobs: Readonly<Record<string, readonly string[]>>;
  /** Text of a rule file. */
  readonly rules: string;
}

/** A real Prometheus on loopback, ready to be asked. Rules are evaluated every second. */
export async function startPrometheus({ bin, dir, jobs, rules }: PrometheusOptions): Promise<TestPrometheus> {
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, 'rules.yaml'), rules);
  await writeFile(
    join(dir, 'prometheus.yaml'),
    JSON.stringify({
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
      rule_files: ['rules.yaml'],
      scrape_configs: Object.entries(jobs).map(([job, targets]) => ({
        job_name: job,
        static_configs: [{ targets }],
      })),
    }),
  );
  const address = `127.0.0.1:${await freePort()}`;
  const child = spawn(
    join(bin, 'prometheus'),
    [
      `--config.file=${join(dir, 'prometheus.yaml')}`,
      `--storage.tsdb.path=${join(dir, 'data')}`,
      `--web.listen-address=${address}`,
      '--log.level=warn',
    ],
    { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const ended = once(child, 'close');
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    await ended;
  };
  const get = async <T>(path: string): Promise<T> => {
    const response = await fetch(`http://${address}${path}`, { headers: { connection: 'close' } });
    const text = await response.text();
    if (!response.ok) throw new Error(`Prometheus answers ${response.status} to ${path}: ${text}`);
    return (JSON.parse(text) as { readonly data: T }).data;
  };
  try {
    await eventually(async () => {
      if (child.exitCode !== null) throw new Error(`prometheus ended: ${said}`);
      await get('/api/v1/status/buildinfo');
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    query: async (expression) => {
      const { result } = await get<QueryData>(`/api/v1/query?query=${encodeURIComponent(expression)}`);
      return result
        .map(({ metric, value: [, value] }) => ({ labels: metric, value: Number(value) }))
        .filter(({ value }) => !Number.isNaN(value));
    },
    firing: async () => {
      const { alerts } = await get<{ readonly alerts: readonly Omit<Alert, 'name'>[] }>('/api/v1/alerts');
      return alerts
        .filter(({ state }) => state === 'firing')
        .map((alert) => ({ ...alert, name: alert.labels['alertname'] ?? '' }));
    },
    stop,
  };
}

interface QueryData {
  readonly result: readonly {
    readonly metric: Readonly<Record<string, string>>;
    readonly value: readonly [number, string];
  }[];
}

/** What promtool says of a file with tests of rules; rejects with that when one fails. */
export async function testRules(bin: string, path: string): Promise<string> {
  const { stdout } = await promisify(execFile)(join(bin, 'promtool'), ['test', 'rules', path]);
  return stdout;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
