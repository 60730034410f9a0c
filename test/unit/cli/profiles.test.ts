import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

import { BUILT_IN_PROFILES } from '../../../src/domain/profile.ts';
import { runInProcess } from '../../support/run-cli.ts';
import { tempDir } from '../../support/temp-dir.ts';

/** Ten lines, every field among them. */
const OWN = `profiles:
  - runtime: my-agent
    configDir: {docker: /home/agent/.agent, ssh: /srv/agent}
    owner: {uid: 1000, gid: 1000}
    disposable: [__pycache__, '*.log']
    rereads: ['skills/**']
    bootSeconds: 12.5
    activation:
      restart: [systemctl, restart, agent]
      startedAt: [systemctl, show, agent]
  - runtime: claude_code
    rereads: ['commands/*.md']
`;

describe('plugset profiles', () => {
  const configured = async (profiles: string): Promise<string> => {
    const path = join(await tempDir(), 'plugset.yaml');
    await writeFile(path, `apiVersion: plugset.dev/v1alpha1\nkind: Configuration\n${profiles}`);
    return path;
  };

  it('prints what is built in', async () => {
    const { code, stdout } = await runInProcess(['profiles']);
    expect(code).toBe(0);
    for (const { runtime } of BUILT_IN_PROFILES) expect(stdout).toMatch(new RegExp(`^${runtime} .* built in$`, 'm'));
    expect(stdout).toMatch(/^claude-code +\/configs +as there +90s +- +by its engine +built in$/m);
    expect(stdout).toMatch(/^hermes +\/configs \(docker, pod\) \/home\/ubuntu\/\.hermes \(ssh, ec2\) /m);
  });

  it('prints those of the configuration over and beside them, and says which they are', async () => {
    const { stdout } = await runInProcess(['profiles', '--config', await configured(OWN)]);
    expect(stdout).toMatch(/^my-agent .* 1000:1000 +12\.5s +skills\/\*\* +systemctl restart agent +configuration$/m);
    expect(stdout).toMatch(/^claude_code .* commands\/\*\.md .* built in, changed$/m);
    expect(stdout).toMatch(/^hermes .* built in$/m);
  });

  it.each(['yaml', 'json'])('prints as %s what a configuration takes back', async (format) => {
    const first = await runInProcess(['profiles', '--config', await configured(OWN), '-o', format]);
    const path = await configured(`profiles: ${JSON.stringify(parse(first.stdout))}\n`);
    const second = await runInProcess(['profiles', '--config', path, '-o', format]);
    expect(second.stdout).toBe(first.stdout);
    const { configDir, ...rest } = parse(OWN).profiles[0];
    const own = parse(first.stdout).find((profile: { runtime: string }) => profile.runtime === 'my-agent');
    expect(own).toEqual({ ...rest, configDir: expect.objectContaining(configDir) });
  });

  it('prints one, by either spelling, and names those there are where there is no such', async () => {
    const { stdout } = await runInProcess(['profiles', 'claude_code', '-o', 'json']);
    expect(JSON.parse(stdout)).toMatchObject([{ runtime: 'claude-code' }]);
    const { code, stderr } = await runInProcess(['profiles', 'clod']);
    expect(code).toBe(1);
    expect(stderr).toContain('there is no profile of the runtime clod; there are claude-code, hermes,');
  });

  it('says file and line of a profile that cannot be used', async () => {
    const path = await configured(OWN.replace('skills/**', '../skills/**'));
    const { code, stderr } = await runInProcess(['profiles', '--config', path]);
    expect(code).toBe(1);
    expect(stderr).toContain(`${path}:8`);
  });
});
