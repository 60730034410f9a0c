import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

/**
 * A lint rule that no longer bites looks just like clean code: a folder renamed, an override too many. So the rules that
 * hold the architecture are tried here, all in one run of the linter over a scratch project.
 */
const imports = 'eslint(no-restricted-imports)';

const refused: readonly (readonly [file: string, code: string, rule: string])[] = [
  ['src/domain', `export * from '../ports/clock.ts';`, imports],
  ['src/domain', `export * from 'node:fs';`, imports],
  ['src/ports', `export * from '../controller/controller.ts';`, imports],
  ['src/ports', `export * from 'pg';`, imports],
  ['src/controller', `export * from '../reconcile/reconciler.ts';`, imports],
  ['src/controller', `export * from '../adapters/system/clock.ts';`, imports],
  ['src/controller', `export const clock = import('../adapters/system/clock.ts');`, imports],
  ['src/reconcile', `export type * from '../controller/controller.ts';`, imports],
  ['src/reconcile', `export * from '../config.ts';`, imports],
  ['src/reconcile', `export * from 'node:timers/promises';`, imports],
  ['src/plugins', `export * from '../adapters/docker/docker-target.ts';`, imports],
  ['src/plugins', `export * from 'node:timers/promises';`, imports],
  ['src/plugins', `export * from 'dockerode';`, imports],
  ['src/adapters/docker', `export * from '../system/clock.ts';`, imports],
  ['src/adapters/docker', `export * from '../../reconcile/reconciler.ts';`, imports],
  ['src/adapters/docker', `export * from '../../app.ts';`, imports],
  ['src/adapters/docker', `export * from 'node:timers';`, imports],
  ['src/adapters/system', `export * from '../docker/docker-target.ts';`, imports],
  ['src/cli', `export * from '../reconcile/reconciler.ts';`, imports],
  ['src/cli', `export * from '../adapters/docker/docker-target.ts';`, imports],
  ['src/cli', `export * from '../main.ts';`, imports],
  ['src/config.ts', `export * from './app.ts';`, imports],
  ['src/config', `export * from '../adapters/docker/docker-target.ts';`, imports],
  ['src/config', `export const home = process.env['HOME'];`, 'node(no-process-env)'],
  ['src/app.ts', `export * from './main.ts';`, imports],
  ['src/domain/one.ts', `export type * from './two.ts';`, 'import(no-cycle)'],
  ['src/domain/two.ts', `export type * from './one.ts';`, 'import(no-cycle)'],
  ['src/cli', `export const home = process.env['HOME'];`, 'node(no-process-env)'],
  ['src/controller', `export const now = Date.now();`, 'eslint(no-restricted-properties)'],
  ['src/controller', `export const chance = Math.random();`, 'eslint(no-restricted-properties)'],
  ['src/adapters/docker', `export const signal = AbortSignal.timeout(1);`, 'eslint(no-restricted-properties)'],
  ['src/adapters/docker', `export const timer = setTimeout(() => undefined, 1);`, 'eslint(no-restricted-globals)'],
  ['src/cli', `export const timer = globalThis.setInterval(() => undefined, 1);`, 'eslint(no-restricted-globals)'],
  ['src/plugins', `export const now = performance.now();`, 'eslint(no-restricted-globals)'],
  ['src/reconcile', `console.log('hello');`, 'eslint(no-console)'],
  ['src/domain', `export const f = async (g: () => Promise<void>) => { g(); };`, 'typescript(no-floating-promises)'],
  ['src/domain', `export const f = (x: any): unknown => x;`, 'typescript(no-explicit-any)'],
  ['test/unit', `import { vi } from 'vitest'; vi.mock('node:fs');`, 'vitest(no-restricted-vi-methods)'],
  ['test/unit', `import { it } from 'vitest'; it.only('runs alone', () => undefined);`, 'vitest(no-focused-tests)'],
  ['test/unit', `import { it } from 'vitest'; it.skip('never runs', () => undefined);`, 'vitest(no-disabled-tests)'],
];

const allowed: readonly (readonly [file: string, code: string])[] = [
  ['src/domain', `export * from './name.ts'; export * from 'zod'; export * from 'node:crypto';`],
  ['src/ports', `export * from './clock.ts'; export * from '../domain/name.ts';`],
  [
    'src/controller',
    `export * from './work-queue.ts'; export * from '../ports/clock.ts'; export * from '../domain/name.ts';`,
  ],
  ['src/plugins', `export * from '../ports/clock.ts'; export * from 'node:fs/promises'; export * from 'tar-stream';`],
  ['src/adapters/docker', `export * from './x.ts'; export * from '../../ports/clock.ts'; export * from 'dockerode';`],
  ['src/adapters/system', `export * from 'node:timers/promises'; export const now = [Date.now(), Math.random()];`],
  [
    'src/cli',
    `export * from '../app.ts'; export * from '../config.ts'; export * from 'commander'; console.log('hello');`,
  ],
  ['src/config', `export * from './settings.ts'; export * from '../adapters/files/yaml-document.ts';`],
  ['src/main.ts', `export * from './cli/run.ts';`],
];

const root = mkdtempSync(join(tmpdir(), 'plugset-lint-'));
afterAll(() => rmSync(root, { recursive: true }));

/** What the linter said, by file; each case is a file of its own. */
const found = new Map<string, string[]>();

const fileOf = (place: string, name: string): string =>
  place.endsWith('.ts') ? place : join(place, place.startsWith('test') ? `${name}.test.ts` : `${name}.ts`);

beforeAll(() => {
  for (const file of ['.oxlintrc.json', 'tsconfig.json', 'package.json']) cpSync(file, join(root, file));
  symlinkSync(resolve('node_modules'), join(root, 'node_modules'));
  refused.forEach(([place, code], index) => write(fileOf(place, `refused-${index}`), code));
  allowed.forEach(([place, code], index) => write(fileOf(place, `allowed-${index}`), code));
  for (const { filename, code } of lint()) found.set(filename, [...(found.get(filename) ?? []), code]);
});

function write(file: string, code: string): void {
  mkdirSync(dirname(join(root, file)), { recursive: true });
  writeFileSync(join(root, file), `${code}\n`);
}

function lint(): readonly { readonly filename: string; readonly code: string }[] {
  const oxlint = resolve('node_modules/oxlint/bin/oxlint');
  const { stdout, stderr } = spawnSync(process.execPath, [oxlint, '-f', 'json', 'src', 'test'], {
    cwd: root,
    encoding: 'utf8',
  });
  expect(stderr).toBe('');
  return (JSON.parse(stdout) as { diagnostics: { filename: string; code: string }[] }).diagnostics;
}

describe('the linter', () => {
  refused.forEach(([place, code, rule], index) => {
    it(`refuses in ${place}: ${code}`, () => {
      expect(found.get(fileOf(place, `refused-${index}`))).toContain(rule);
    });
  });

  allowed.forEach(([place, code], index) => {
    it(`allows in ${place}: ${code}`, () => {
      expect(found.get(fileOf(place, `allowed-${index}`)) ?? []).toEqual([]);
    });
  });
});
