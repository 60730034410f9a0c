import { describe, expect, it } from 'vitest';

import { engineDialer } from '../../../../src/adapters/ssh/engine-dialer.ts';
import type { AllowedHosts } from '../../../../src/domain/access.ts';
import { transient } from '../../../../src/domain/errors.ts';
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
      const unasked = (): never => expect.fail('it was not refused');
      const dialer = engineDialer(address, ENTRIES, { socketDialer: unasked, commandDialer: unasked });
      await expect(dialer?.dial(new AbortController().signal)).rejects.toMatchObject({
        class: 'terminal',
        reason: 'TargetNotAllowed',
      });
    }
  });
});

describe('a socket that the host does not open', () => {
  const SOCKET_REFUSED = transient('Unreachable', 'refused', Object.assign(new Error('no'), { reason: 2 }));

  /** The command that is tried in its place. */
  async function triedAt(address: string, error: Error): Promise<string | undefined> {
    let tried: string | undefined;
    const dialer = engineDialer(address, ENTRIES, {
      socketDialer: () => ({ dial: () => Promise.reject(error) }),
      commandDialer: ({ command, preface }) => {
        tried = command;
        return { dial: () => Promise.reject(new Error(`${preface}, and no more`)) };
      },
    });
    const wanted = /^refused, and no more$|^refused$|^broken$/;
    await expect(dialer?.dial(new AbortController().signal)).rejects.toThrow(wanted);
    return tried;
  }

  it('is dialled by what the docker command runs there, where the path means the same to every shell', async () => {
    expect(await triedAt('ssh://one.example.com', SOCKET_REFUSED)).toBe('docker system dial-stdio');
    const other = 'docker --host unix:///run/user/1000/docker.sock system dial-stdio';
    expect(await triedAt('ssh://one.example.com/run/user/1000/docker.sock', SOCKET_REFUSED)).toBe(other);
    expect(await triedAt('ssh://one.example.com/run/$HOME/docker.sock', SOCKET_REFUSED)).toBeUndefined();
  });

  it('is not, where the host itself is not reached', async () => {
    const broken = transient('Unreachable', 'broken', new Error('ECONNRESET'));
    expect(await triedAt('ssh://one.example.com', broken)).toBeUndefined();
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
    commandDialer: () => expect.fail('no socket was refused'),
  });
  return where;
}
