import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { runChecks, type Finding } from '../../../src/doctor/check.ts';
import type { Declarations } from '../../../src/doctor/declarations.ts';
import { sshChecks } from '../../../src/doctor/ssh.ts';
import type { AllowedHosts } from '../../../src/domain/access.ts';
import { FakeClock } from '../../support/fake-clock.ts';

describe('sshChecks', () => {
  let dir: string;

  beforeEach(async () => void (dir = await mkdtemp(join(tmpdir(), 'plugset-doctor-'))));
  afterEach(() => rm(dir, { recursive: true }));

  const key = async (passphrase: string): Promise<string> => {
    const file = join(dir, `key${passphrase}`);
    await promisify(execFile)('ssh-keygen', ['-q', '-t', 'ed25519', '-N', passphrase, '-C', 'test', '-f', file]);
    return file;
  };

  it('finds nothing wrong with a key that can be used and a file of known hosts', async () => {
    const knownHostsFile = join(dir, 'known_hosts');
    await writeFile(knownHostsFile, '');
    const findings = await check([{ ...ENTRY, keyFile: await key(''), knownHostsFile }]);
    expect(findings.map(({ check: name, result }) => [name, result])).toEqual([
      ['ssh *.example.com', 'ok'],
      ['ssh *.example.com', 'ok'],
    ]);
  });

  it('names what keeps it from logging in', async () => {
    const seen = async (entry: Partial<AllowedHosts>): Promise<string> =>
      (await check([{ ...ENTRY, ...entry }])).map((finding) => `${finding.result} ${finding.seen}`).join('; ');
    expect(await seen({})).toMatch(/FAIL neither a key nor an agent is named; warn nothing vouches/);
    expect(await seen({ keyFile: await key('secret') })).toMatch(
      /FAIL .* no private key that can be used without a pass/,
    );
    expect(await seen({ keyFile: `${await key('')}.pub` })).toMatch(/FAIL .*key\.pub holds a public key/);
    expect(await seen({ keyFile: join(dir, 'absent') })).toMatch(/FAIL .*absent cannot be read \(ENOENT\)/);
    expect(await seen({ agent: join(dir, 'absent') })).toMatch(/FAIL there is no agent at .* \(ENOENT\)/);
    expect(await seen({ firstContact: 'tofu' })).toMatch(/warn the first key that a host shows is believed/);
  });

  it('misses hosts only where workspaces are some', async () => {
    expect(await check([], true)).toMatchObject([
      { result: 'FAIL', seen: 'workspaces are hosts, and no host is allowed' },
    ]);
    expect(await check([], false)).toEqual([]);
  });
});

const ENTRY: AllowedHosts = { hosts: ['*.example.com'], firstContact: 'strict' };

function check(sshHosts: readonly AllowedHosts[], hasSshHosts = false): Promise<readonly Finding[]> {
  const declarations = Promise.resolve({ hasSshHosts } as Declarations);
  return runChecks(
    sshChecks({ sshHosts, engineHosts: [] }, declarations),
    new FakeClock(),
    new AbortController().signal,
  );
}
