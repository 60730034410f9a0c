import { describe, expect, it } from 'vitest';

import { SshTargetProvider } from '../../../../src/adapters/ssh/ssh-target-provider.ts';
import type { AllowedHosts } from '../../../../src/domain/access.ts';
import type { SshEndpoint } from '../../../../src/ports/ssh-endpoint.ts';
import type { WorkspaceTarget } from '../../../../src/ports/workspace-target.ts';
import { workspaceAt } from '../../../support/workspaces.ts';

const SIGNAL = new AbortController().signal;
const ENTRY: AllowedHosts = { hosts: ['*.team-a.example.com'], user: 'ubuntu', firstContact: 'strict' };

interface Declared {
  readonly host: string;
  readonly port?: number;
  readonly user?: string;
}

describe('SshTargetProvider', () => {
  it('reaches a host as the operator says', async () => {
    expect(await endpointOf([ENTRY], { host: 'ws.team-a.example.com' })).toMatchObject({
      id: expect.stringMatching(/^ssh:ubuntu@ws.team-a.example.com /),
      user: 'ubuntu',
      hostKeys: { name: 'ws.team-a.example.com', firstContact: 'strict', ask: 'always' },
    });
    const own = { ...ENTRY, user: undefined, port: 2222 };
    expect(await endpointOf([own], { host: 'ws.team-a.example.com', user: 'me' })).toMatchObject({
      id: expect.stringMatching(/^ssh:me@\[ws.team-a.example.com\]:2222 /),
    });
  });

  it('shares a connection with nobody who logs in otherwise, or believes other keys', async () => {
    const host = 'ws.team-a.example.com';
    const own = { ...ENTRY, keyFile: '/a', knownHostsFile: '/known' };
    const others: readonly Partial<AllowedHosts>[] = [
      { keyFile: '/b' },
      { keyFile: undefined, agent: '/a' },
      { knownHostsFile: undefined },
      { firstContact: 'tofu' },
      { user: 'root' },
    ];
    const entries = [own, ...others.map((other) => ({ ...own, ...other }))];
    const ids = await Promise.all(entries.map(async (entry) => (await endpointOf([entry], { host })).id));
    expect(new Set(ids).size).toBe(entries.length);
    expect((await endpointOf([{ ...own, namespaces: undefined }], { host })).id).toBe(ids[0]);
  });

  it('takes the first entry that has the host for the namespace', async () => {
    const others = { ...ENTRY, namespaces: ['team-b'], user: 'others' };
    expect(await endpointOf([others, ENTRY], { host: 'ws.team-a.example.com' })).toMatchObject({ user: 'ubuntu' });
    await expect(endpointOf([others], { host: 'ws.team-a.example.com' })).rejects.toMatchObject({
      class: 'terminal',
      reason: 'TargetNotAllowed',
    });
  });

  it('refuses another host, user or port than the operator has allowed', async () => {
    const host = 'ws.team-a.example.com';
    for (const [allowed, declared] of [
      [[], { host }],
      [[ENTRY], { host: 'team-a.example.com' }],
      [[ENTRY], { host, user: 'root' }],
      [[{ ...ENTRY, port: 22 }], { host, port: 2222 }],
    ] as const)
      await expect(endpointOf(allowed, declared)).rejects.toMatchObject({ reason: 'TargetNotAllowed' });
    await expect(endpointOf([{ ...ENTRY, user: undefined }], { host })).rejects.toMatchObject({
      reason: 'InvalidSpec',
    });
  });

  it('knows one place by one address, whoever logs in', () => {
    const provider = providerOf([{ ...ENTRY, user: undefined }], []);
    const addresses = (declared: Declared) => provider.addresses(workspaceAt({ ssh: declared }));
    expect(addresses({ host: 'a.team-a.example.com', user: 'x' })).toEqual(
      addresses({ host: 'a.team-a.example.com', port: 22 }),
    );
  });

  it('names a key file that cannot be used', async () => {
    const { credential } = await endpointOf([{ ...ENTRY, keyFile: '/nonexistent/key' }], {
      host: 'ws.team-a.example.com',
    });
    await expect(credential(SIGNAL)).rejects.toMatchObject({
      reason: 'AuthenticationFailed',
      message: '/nonexistent/key of targets.ssh cannot be read (ENOENT)',
    });
  });
});

function providerOf(allowed: readonly AllowedHosts[], seen: SshEndpoint[]): SshTargetProvider {
  const hosts = {
    locate: async (endpoint: SshEndpoint) => {
      seen.push(endpoint);
      return {} as WorkspaceTarget;
    },
    release: () => undefined,
    close: async () => undefined,
  };
  return new SshTargetProvider({ allowed, profiles: [], hosts });
}

async function endpointOf(allowed: readonly AllowedHosts[], declared: Declared): Promise<SshEndpoint> {
  const seen: SshEndpoint[] = [];
  await providerOf(allowed, seen).locate(workspaceAt({ ssh: declared }), SIGNAL);
  const [endpoint] = seen;
  if (endpoint === undefined) throw new Error('nothing was located');
  return endpoint;
}
