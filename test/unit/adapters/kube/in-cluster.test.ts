import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { inClusterConnection } from '../../../../src/adapters/kube/in-cluster.ts';
import { tempDir } from '../../../support/temp-dir.ts';

test('a pod asks as its service account, with the token that is there now', async () => {
  const directory = await tempDir();
  for (const [name, text] of Object.entries({ 'ca.crt': 'CA', token: 't1\n', namespace: 'plugset' })) {
    await writeFile(join(directory, name), text);
  }
  const read = inClusterConnection({ host: '10.0.0.1', port: '443', directory });
  const { server, ...rest } = await read();
  expect(server.href).toBe('https://10.0.0.1/');
  expect(rest).toEqual({ tls: { ca: 'CA' }, headers: { Authorization: 'Bearer t1' }, namespace: 'plugset' });
  await writeFile(join(directory, 'token'), 't2');
  await writeFile(join(directory, 'ca.crt'), 'CA2');
  expect(await read()).toMatchObject({ tls: { ca: 'CA2' }, headers: { Authorization: 'Bearer t2' } });
});

test('an address of IPv6 has its brackets', async () => {
  const directory = await tempDir();
  for (const name of ['ca.crt', 'token', 'namespace']) await writeFile(join(directory, name), 'x');
  const read = inClusterConnection({ host: 'fd00::1', port: '6443', directory });
  expect((await read()).server.host).toBe('[fd00::1]:6443');
});

test('without a service account there is no credential', async () => {
  const directory = await tempDir();
  await expect(inClusterConnection({ host: 'k', port: '1', directory })()).rejects.toMatchObject({
    class: 'transient',
    reason: 'AuthenticationFailed',
    message: `the service account of this pod cannot be read in ${directory} (ENOENT)`,
  });
});
