import { readFile } from 'node:fs/promises';

import { expect, it } from 'vitest';

interface Policy {
  readonly Statement: readonly { readonly Action: string | readonly string[] }[];
}

const at = (path: string): Promise<string> => readFile(new URL(`../../${path}`, import.meta.url), 'utf8');

it('manifests/aws/policy.json allows what README says that plugset needs, and no more', async () => {
  const { Statement: statements } = JSON.parse(await at('manifests/aws/policy.json')) as Policy;
  const [, table = ''] = /^\| action \| on \| for \|\n([^]*?)\n\n/m.exec(await at('README.md')) ?? [];
  const needed = table.split('\n').flatMap((row) => row.split('|')[1]?.match(/[a-z0-9-]+:[A-Z]\w+/g) ?? []);
  expect(needed).toHaveLength(5);
  expect(statements.flatMap(({ Action: actions }) => actions).toSorted()).toEqual(needed.toSorted());
});
