import { expect, it } from 'vitest';

import { runInProcess } from '../../support/run-cli.ts';

it('plugset manifests crd prints the definition, and asks nothing and nobody', async () => {
  const { code, stdout, stderr } = await runInProcess(['manifests', 'crd']);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(/^kind: CustomResourceDefinition$/m);
  expect(stdout).toMatch(/^ {2}name: workspaces\.plugset\.dev$/m);
});

it('plugset manifests knows no others', async () => {
  expect(await runInProcess(['manifests', 'helm'])).toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('Allowed choices are crd'),
  });
});
