import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { expect, onTestFinished, test } from 'vitest';

import { FakeAws } from '../support/aws/fake-aws.ts';
import { withBackend } from '../support/backend.ts';

const run = promisify(execFile);
const VITEST = 'node_modules/vitest/vitest.mjs';

await withBackend('machine', () => {
  test('npm run test:ec2 tells its story on whatever instance it is pointed at', async () => {
    const aws = await FakeAws.start();
    onTestFinished(() => aws.close());
    const { id } = await aws.launch();
    const { PATH = '', HOME = '' } = process.env;
    const env = { PATH, HOME, ...aws.environment, PLUGSET_TEST_EC2_INSTANCE: id };
    const { stdout } = await run(process.execPath, [VITEST, 'run', '--mode', 'ec2'], { env });
    expect(stdout).toMatch(/1 passed/);
    expect(aws.count('OpenTunnel')).toBeGreaterThan(0);
  });
});
