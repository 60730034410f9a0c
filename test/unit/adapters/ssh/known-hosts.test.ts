import { createHmac } from 'node:crypto';

import { describe, expect, it } from 'vitest';

import { hostName, keysFor } from '../../../../src/adapters/ssh/known-hosts.ts';
import { isMatch } from '../../../../src/domain/allowed-host.ts';

const A = { type: 'ssh-ed25519', key: 'QUFB' };
const B = { type: 'ecdsa-sha2-nistp256', key: 'QkJC' };

describe('keysFor', () => {
  it('finds every key of a host, and no key of another', () => {
    const file = `# mine\n\nhost.example.com,10.0.0.5 ssh-ed25519 QUFB me@home\nhost.example.com ${B.type} ${B.key}\nother ssh-rsa Q0ND\n`;
    expect(keysFor('host.example.com', file)).toEqual([A, B]);
    expect(keysFor('10.0.0.5', file)).toEqual([A]);
    expect(keysFor('example.com', file)).toEqual([]);
  });

  it('tells ports apart', () => {
    const file = '[host]:2222 ssh-ed25519 QUFB\nhost ecdsa-sha2-nistp256 QkJC\n';
    expect(keysFor(hostName('host', 2222), file)).toEqual([A]);
    expect(keysFor(hostName('host', 22), file)).toEqual([B]);
  });

  it('reads hashed names, as ssh-keygen -H writes them', () => {
    const salt = Buffer.from('01234567890123456789');
    const hash = createHmac('sha1', salt).update('host').digest('base64');
    const file = `|1|${salt.toString('base64')}|${hash} ssh-ed25519 QUFB\n`;
    expect(keysFor('host', file)).toEqual([A]);
    expect(keysFor('hosts', file)).toEqual([]);
  });

  it('takes patterns, and what they exclude', () => {
    const file = '*.example.com,!bad.example.com ssh-ed25519 QUFB\n';
    expect(keysFor('good.example.com', file)).toEqual([A]);
    expect(keysFor('bad.example.com', file)).toEqual([]);
  });

  it('takes no key that is revoked, and no authority for a key', () => {
    expect(keysFor('host', 'host ssh-ed25519 QUFB\n@revoked * ssh-ed25519 QUFB\n')).toEqual([]);
    expect(keysFor('host', '@cert-authority * ssh-ed25519 QUFB\n')).toEqual([]);
  });
});

describe('isMatch', () => {
  it('takes the whole name', () => {
    for (const [name, pattern] of [
      ['10.0.0.5', '10.0.0.*'],
      ['a.b', '*'],
      ['ab', 'a?'],
      ['[::1]:22', '[::1]:*'],
    ])
      expect(isMatch(name ?? '', pattern ?? ''), pattern).toBe(true);
    for (const [name, pattern] of [
      ['10.0.0.5', '10.0.0'],
      ['axb', 'a.b'],
      ['evil-example.com', '*.example.com'],
    ])
      expect(isMatch(name ?? '', pattern ?? ''), pattern).toBe(false);
  });
});
