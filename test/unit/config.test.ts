import { Command } from 'commander';
import { afterEach, describe, expect, it, vi } from 'vitest';

import { configFrom, daemonOptions, engineOptions, storeOptions, type Config } from '../../src/config.ts';

/** As the program reads a command line in an environment. */
function read(argv: readonly string[], environment: Readonly<Record<string, string>> = {}): Config {
  for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
  const command = new Command().exitOverride();
  for (const option of [...storeOptions(), ...engineOptions(), ...daemonOptions()]) command.addOption(option);
  return configFrom(command.parse([...argv], { from: 'user' }).opts());
}

describe('configuration', () => {
  afterEach(() => vi.unstubAllEnvs());

  it.each([
    { title: 'files when told so', argv: ['--files', '/w'], env: {}, store: { kind: 'files', dir: '/w' } },
    {
      title: 'Postgres from the usual variable',
      argv: [],
      env: { DATABASE_URL: 'postgres://h/d' },
      store: { kind: 'postgres', url: 'postgres://h/d' },
    },
    {
      title: 'files before a DATABASE_URL that is there for others',
      argv: ['--files', '/w'],
      env: { DATABASE_URL: 'postgres://h/d' },
      store: { kind: 'files', dir: '/w' },
    },
    {
      title: 'what was typed before any variable',
      argv: ['--database', 'postgres://x/y'],
      env: { PLUGSET_FILES: '/w' },
      store: { kind: 'postgres', url: 'postgres://x/y' },
    },
  ])('store: $title', ({ argv, env, store }) => {
    expect(read(argv, env).store).toEqual(store);
  });

  it('keeps the state of two directories apart: else the second would look like a deletion of the first', () => {
    expect(read(['--files', '/a/w']).stateDir).not.toBe(read(['--files', '/b/w']).stateDir);
    expect(read(['--files', '/a/w', '--state-dir', '/s']).stateDir).toBe('/s');
  });

  it('says what is missing', () => {
    expect(() => read([])).toThrow(/--files DIR, or set DATABASE_URL/);
    expect(() => read(['--files', '/w', '--workers', 'many'])).toThrow(/workers: many is no number/);
    expect(() => read(['--files', '/w', '--per-engine', '0'])).toThrow(/perEngine: 0 is no number of 1 or more/);
    expect(() => read(['--files', '/w', '--docker-host', 'socket'])).toThrow(/\[name=\]unix:/);
    expect(() => read(['--files', '/w', '--listen', '9464'])).toThrow(/host:port/);
    expect(() => read(['--files', '/w', '--authority', 'No Such'])).toThrow(/authority/);
  });

  it('takes no for an answer: a switch set to false in the environment is off', () => {
    expect(read(['--files', '/w'], { PLUGSET_ALLOW_UNPINNED: 'false' }).allowUnpinned).toBe(false);
    expect(read(['--files', '/w'], { PLUGSET_ALLOW_UNPINNED: 'true' }).allowUnpinned).toBe(true);
    expect(read(['--files', '/w', '--allow-unpinned']).allowUnpinned).toBe(true);
    expect(() => read(['--files', '/w'], { PLUGSET_ALLOW_LOOPBACK: 'maybe' })).toThrow(/true or false/);
  });

  it('names engines, and listens on loopback only unless told otherwise', () => {
    const config = read([
      '--files',
      '/w',
      '--docker-host',
      'tcp://10.0.0.1:2375',
      '--docker-host',
      'east=unix:///run/east.sock',
    ]);
    expect(config.engines).toEqual([
      { name: 'default', address: 'tcp://10.0.0.1:2375' },
      { name: 'east', address: 'unix:///run/east.sock' },
    ]);
    expect(config.listen.host).toBe('127.0.0.1');
    expect(read(['--files', '/w', '--listen', '[::1]:1']).listen).toEqual({ host: '::1', port: 1 });
  });
});
