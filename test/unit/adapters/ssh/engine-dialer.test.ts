import { describe, expect, it } from 'vitest';

import { engineDialer } from '../../../../src/adapters/ssh/engine-dialer.ts';
import type { AllowedHosts } from '../../../../src/domain/access.ts';
import type { SshEndpoint } from '../../../../src/ports/ssh-endpoint.ts';

const ENTRIES: readonly AllowedHosts[] = [
  { hosts: ['*.example.com'], user: 'plugset', port: 2222, firstContact: 'strict' },
  { hosts: ['10.0.0.*', 'fd00::*'], firstContact: 'strict' },
];

describe('engineDialer', () => {
  it('leads where the address and the entry of its host say', () => {
    expect(leadsTo('ssh://one.example.com')).toBe('ssh:plugset@[one.example.com]:2222 /var/run/docker.sock');
    expect(leadsTo('ssh://root@one.example.com:22/')).toBe('ssh:root@one.example.com /var/run/docker.sock');
    expect(leadsTo('ssh://u@10.0.0.5/run/user/1000/docker.sock')).toBe('ssh:u@10.0.0.5 /run/user/1000/docker.sock');
    expect(leadsTo('ssh://u@[fd00::1]:23')).toBe('ssh:u@[fd00::1]:23 /var/run/docker.sock');
  });

  it('leaves addresses of other kinds alone', () => {
    for (const address of ['unix:///var/run/docker.sock', 'tcp://one.example.com:2375'])
      expect(leadsTo(address)).toBeUndefined();
  });

  it('refuses a host that no entry has, and one that nobody names a user of, when it is asked', async () => {
    for (const address of ['ssh://one.example.org', 'ssh://10.0.0.5']) {
      const dialer = engineDialer(address, ENTRIES, { socketDialer: () => expect.fail('it was not refused') });
      await expect(dialer?.dial(new AbortController().signal)).rejects.toMatchObject({
        class: 'terminal',
        reason: 'TargetNotAllowed',
      });
    }
  });
});

/** Endpoint and socket. */
function leadsTo(address: string): string | undefined {
  let where: string | undefined;
  engineDialer(address, ENTRIES, {
    socketDialer: ({ id }: SshEndpoint, path) => {
      where = `${id.split(' ')[0]} ${path}`;
      return { dial: () => Promise.reject(new Error('nobody asked for it')) };
    },
  });
  return where;
}
