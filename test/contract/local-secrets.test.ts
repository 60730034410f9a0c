import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, it } from 'vitest';

import { LocalSecrets } from '../../src/adapters/system/local-secrets.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import { describeSecretResolver } from './secret-resolver.ts';

const workspace = workspaceKey('team-a', 'alice');
const stranger = workspaceKey('team-b', 'bob');

describeSecretResolver('files of the controller', {
  async create() {
    const base = await mkdtemp(join(tmpdir(), 'plugset-secrets-'));
    const path = join(base, 'token');
    const other = join(base, 'other');
    await writeFile(other, 'not for you');
    const reference = { scheme: 'file', path } as const;
    return {
      resolver: new LocalSecrets([{ file: path, namespaces: ['team-a'] }], {}),
      workspace,
      reference,
      forbidden: [
        { workspace: stranger, reference },
        { workspace, reference: { scheme: 'file', path: other } },
        {
          workspace,
          reference: { scheme: 'file', path: join(base, '../', base.slice(base.lastIndexOf('/') + 1), 'other') },
        },
        { workspace, reference: { scheme: 'env', variable: 'PATH' } },
        { workspace, reference: { scheme: 'secret', name: 'a', key: 'b' } },
      ],
      put: (value) => writeFile(path, value),
      remove: () => rm(path),
      async break() {
        await rename(path, `${path}-away`);
        await mkdir(path);
      },
      dispose: () => rm(base, { recursive: true }),
    };
  },
});

const VARIABLE = { scheme: 'env', variable: 'TOKEN' } as const;

describeSecretResolver('variables of the controller', {
  async create() {
    const variables: Record<string, string> = { OTHER: 'not for you' };
    return {
      resolver: new LocalSecrets([{ env: 'TOKEN', namespaces: ['team-a'] }], variables),
      workspace,
      reference: VARIABLE,
      forbidden: [
        { workspace: stranger, reference: VARIABLE },
        { workspace, reference: { scheme: 'env', variable: 'OTHER' } },
        { workspace, reference: { scheme: 'file', path: '/etc/hostname' } },
      ],
      put: async (value) => {
        variables['TOKEN'] = Buffer.from(value).toString('utf8');
      },
      remove: async () => {
        delete variables['TOKEN'];
      },
      break: async () => undefined,
      dispose: async () => undefined,
    };
  },
  unsupported: {
    'what is no text is refused for good': 'Node hands variables out as text',
    'what cannot be looked at is not said to be away': 'a variable can always be looked at',
  },
});

it('a file of more than 64 KiB is refused, and the end of its last line is no part of it', async () => {
  const base = await mkdtemp(join(tmpdir(), 'plugset-secrets-'));
  const path = join(base, 'token');
  const secrets = new LocalSecrets([{ file: path }], {});
  const { signal } = new AbortController();
  const reference = { scheme: 'file', path } as const;
  await writeFile(path, 'a\n\n');
  expect(await secrets.resolve(reference, workspace, signal)).toMatchObject({ value: 'a\n' });
  await writeFile(path, 'a'.repeat(65_537));
  await expect(secrets.resolve(reference, workspace, signal)).rejects.toMatchObject({ class: 'terminal' });
  await rm(base, { recursive: true });
});
