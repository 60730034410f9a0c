import { describe, expect, it } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { benchFleetOfContainers, hasAnsible } from './fleet-of-containers.ts';
import { renderTable } from './table.ts';

await withBackend('docker', async (docker) => {
  await withBackend('postgres', (postgres) => {
    describe('reach', () => {
      it.skipIf(!hasAnsible())('prints how it compares with an Ansible playbook', { timeout: 1_800_000 }, async () => {
        const containers = new TestContainers(docker);
        try {
          const rows = await benchFleetOfContainers({ docker, postgres, containers });
          expect(rows).not.toEqual([]);
          process.stdout.write(`\n${renderTable(rows)}\n\n`);
        } finally {
          await containers.removeAll();
        }
      });
    });
  });
});
