import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, it } from 'vitest';

import { configFrom } from '../../src/config.ts';
import { openStore } from '../../src/stores.ts';
import { withBackend } from '../support/backend.ts';
import { freshDatabase } from '../support/fresh-database.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { tempDir } from '../support/temp-dir.ts';

const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
const section = /^## A platform's own tables$[^]*?^## /m.exec(readme)?.[0] ?? '';

function block(language: string): string {
  const [, text] = new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\``, 'm').exec(section) ?? [];
  if (text === undefined) throw new Error(`no ${language} there`);
  return text;
}

await withBackend('postgres', (address) =>
  it("the README's queries read the README's tables", async () => {
    const database = await freshDatabase(address);
    await database.sql(block('sql'));
    await database.sql(`
      with w as (insert into public.workspaces (org, name, runtime, instance_id) values ('acme', 'alice', 'hermes', 'ws-1') returning id)
      insert into public.workspace_declared_plugins select id, 'superpowers', 'local://superpowers' from w`);
    const path = join(await tempDir(), 'plugset.yaml');
    await writeFile(path, block('yml'));
    const config = configFrom({ config: path, database: database.url });
    const { store, close } = await openStore(config, { role: 'client', logger: new RecordingLogger() });
    try {
      const { signal } = new AbortController();
      const [key] = await store.list(signal);
      expect(key === undefined ? undefined : await store.get(key, signal)).toMatchObject({
        workspace: {
          key: 'acme/alice',
          target: { docker: { container: 'ws-1' } },
          plugins: [{ name: 'superpowers' }],
          policy: { deletion: 'Orphan' },
        },
      });
    } finally {
      await close();
      await database.drop();
    }
  }),
);
