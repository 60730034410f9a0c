import { fileURLToPath } from 'node:url';

import { expect, it } from 'vitest';

import { runInProcess } from '../support/run-cli.ts';

const FILE = fileURLToPath(new URL('../../manifests/kustomize/base/crd.yaml', import.meta.url));

it('manifests/kustomize/base/crd.yaml is what plugset manifests crd prints (vitest -u writes it)', async () => {
  const { code, stdout } = await runInProcess(['manifests', 'crd']);
  expect(code).toBe(0);
  await expect(stdout).toMatchFileSnapshot(FILE);
});
