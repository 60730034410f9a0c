import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, it } from 'vitest';

import { configFrom, gatherSettings } from '../../src/config.ts';
import { referenceConfig } from '../support/reference-config.ts';
import { tempDir } from '../support/temp-dir.ts';

const FILE = fileURLToPath(new URL('../../manifests/plugset.yaml', import.meta.url));

describe('manifests/plugset.yaml', () => {
  it('documents every setting that the schema has (vitest -u writes it)', async () => {
    await expect(referenceConfig()).toMatchFileSnapshot(FILE);
  });

  it('says the defaults: read back, it changes nothing', async () => {
    const path = join(await tempDir(), 'plugset.yaml');
    await writeFile(path, 'apiVersion: plugset.dev/v1alpha1\nkind: Configuration\n');
    expect(gatherSettings({ config: FILE }).settings).toEqual(gatherSettings({ config: path }).settings);
    expect(configFrom({ config: FILE, files: '/w' })).toEqual(configFrom({ config: path, files: '/w' }));
  });
});
