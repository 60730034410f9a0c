import { access, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { describe, expect, it } from 'vitest';

import { parseWorkspaceFile } from '../../src/adapters/files/parse-workspace-file.ts';
import { AUTHORITY_KEY } from '../../src/adapters/kube/kube-leadership.ts';
import { FENCE_KEY } from '../../src/adapters/kube/fence-floor.ts';
import { GIT_SCHEMES } from '../../src/adapters/git/address.ts';
import { EMPTIED_KEY, PAUSE_KEY, REMOVED_KEY } from '../../src/domain/fleet.ts';
import { RESTARTED_KEY } from '../../src/domain/restart-budget.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import { STATE_FOLDERS } from '../../src/domain/state-key.ts';
import { createSourceGrammar } from '../../src/sources.ts';
import { withBackend } from '../support/backend.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { freshDatabase } from '../support/fresh-database.ts';
import { withTables } from '../support/readme-tables.ts';

const ROOT = new URL('../../', import.meta.url);
const README = fileURLToPath(new URL('README.md', ROOT));
const readme = await readFile(README, 'utf8');

const blocksOf = (language: string): readonly string[] =>
  [...readme.matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\``, 'gm'))].map(([, text = '']) => text);
const inlineCode = [...readme.replaceAll(/^```[^]*?^```/gm, '').matchAll(/`([^`\n]+)`/g)].map(([, text = '']) => text);

describe('README', () => {
  it('has the tables of options, policy, reasons and metrics that the code exports (vitest -u writes them)', async () => {
    await expect(await withTables(readme)).toMatchFileSnapshot(README);
  });

  it('names only paths that exist', async () => {
    const paths = inlineCode.filter((text) => /^(?:src|test|manifests|\.ci)\/[\w./-]+$/.test(text));
    expect(paths.length).toBeGreaterThan(8);
    const missing = await Promise.all(
      paths.map((path) =>
        access(new URL(path, ROOT)).then(
          () => undefined,
          () => path,
        ),
      ),
    );
    expect(missing.filter(Boolean)).toEqual([]);
  });

  it('names every npm script it tells people to run', async () => {
    const { scripts } = JSON.parse(await readFile(new URL('package.json', ROOT), 'utf8')) as { scripts: object };
    const told = [...readme.matchAll(/npm (?:run )?(start|test(?=\s)|(?<=run )[\w:]+)/g)].map(([, script]) => script);
    expect(Object.keys(scripts)).toEqual(expect.arrayContaining([...new Set(told)]));
  });

  it('shows declarations that can be used', () => {
    const problems = blocksOf('yaml').flatMap((text) => {
      const { documents, problems: unreadable } = parseWorkspaceFile('README.md', text);
      expect(documents).not.toHaveLength(0);
      return [
        ...unreadable,
        ...documents.flatMap((document) => (document.kind === 'malformed' ? document.problems : [])),
      ];
    });
    expect(problems).toEqual([]);
  });

  it('shows an example of every scheme of sources, and each can be read', () => {
    const grammar = createSourceGrammar(false, new FakeClock());
    const section = /^## Sources$[^]*?^## /m.exec(readme)?.[0] ?? '';
    const examples = [...section.matchAll(/^\| `([^`]+)` \| `([^`]+)`/gm)];
    // Unencrypted http is not allowed by any option yet.
    const schemes = ['local', ...GIT_SCHEMES.filter((scheme) => scheme !== 'git+http')];
    expect(examples.map(([, scheme]) => scheme)).toEqual(schemes);
    for (const [, scheme, source = ''] of examples) expect(grammar.parse(source).ref.scheme).toBe(scheme);
  });

  it('lists every document that plugset remembers', () => {
    const section = /^### What plugset remembers$[^]*?^## /m.exec(readme)?.[0] ?? '';
    const rows = [...section.matchAll(/^\| (`[^|]+) \|/gm)].map(([, keys = '']) => keys);
    const keys = rows.flatMap((row) => [...row.matchAll(/`([^`]+)`/g)].map(([, key = '']) => key));
    expect(new Set(keys.map((key) => key.split('/')[0]))).toEqual(new Set(STATE_FOLDERS));
    const whole = [PAUSE_KEY, EMPTIED_KEY, REMOVED_KEY, RESTARTED_KEY, AUTHORITY_KEY, FENCE_KEY];
    expect(keys.filter((key) => key.startsWith('fleet/')).toSorted()).toEqual(whole.toSorted());
  });

  it('lists the runtimes that are built in', () => {
    const runtimes = BUILT_IN_PROFILES.map((profile) => profile.runtime);
    expect(inlineCode).toEqual(expect.arrayContaining(runtimes));
  });
});

await withBackend('postgres', (url) => {
  describe('README', () => {
    it('shows SQL that runs', async () => {
      const database = await freshDatabase(url);
      try {
        for (const sql of blocksOf('sql')) await database.sql(sql);
        expect(await database.sql('select name, reason from plugset.status')).toHaveLength(1);
      } finally {
        await database.drop();
      }
    });
  });
});
