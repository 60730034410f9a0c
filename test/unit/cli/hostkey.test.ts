import { describe, expect, it } from 'vitest';

import { HostKeyPins } from '../../../src/adapters/ssh/host-key-pins.ts';
import { CliBench } from './fixtures.ts';

const KEY = { type: 'ssh-ed25519', key: Buffer.from('the key').toString('base64') };
const SIGNAL = new AbortController().signal;

class PinnedBench extends CliBench {
  readonly pins = new HostKeyPins(() => this.state, this.clock);

  async pin(name: string, isVouchedFor: boolean): Promise<void> {
    const vouchedFor = async () => (isVouchedFor ? [KEY] : []);
    const policy = {
      name,
      policy: 'tofu',
      voucher: 'a test',
      ask: 'always',
      vouchedFor,
      firstContact: 'tofu',
    } as const;
    const trust = await this.pins.trustIn(policy, SIGNAL);
    await trust.pin(KEY, SIGNAL);
  }
}

describe('hostkey', () => {
  it('lists what hosts are known by, and whether anybody vouched for it', async () => {
    const bench = new PinnedBench();
    await bench.pin('b.example.com', true);
    await bench.pin('[::1]:2222', false);
    const { code, stdout } = await bench.run(['hostkey', 'list']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^HOST +TYPE +FINGERPRINT +VERIFIED +AGE\n/);
    expect(stdout).toMatch(/^b\.example\.com +ssh-ed25519 +SHA256:[A-Za-z0-9+/]{43} +True/m);
    expect(stdout).toMatch(/^\[::1\]:2222 .* False/m);
    expect((await bench.run(['hostkey', 'list', 'b.example.com'])).stdout).not.toContain('[::1]:2222');
  });

  it('forgets the key of a host that is named, and of no other', async () => {
    const bench = new PinnedBench();
    for (const name of ['a.example.com', 'b.example.com']) await bench.pin(name, false);
    expect(await bench.run(['hostkey', 'forget', 'a.example.com'])).toMatchObject({
      code: 0,
      stdout: 'host a.example.com: its key is forgotten; the next contact is a first one\n',
    });
    expect(await bench.state.list('hostkey', SIGNAL)).toEqual(['hostkey/b.example.com']);
    const again = await bench.run(['hostkey', 'forget', 'a.example.com']);
    expect(again.code).toBe(1);
    expect(again.stderr).toContain('no key is known of "a.example.com"');
    expect((await bench.run(['hostkey', 'forget'])).code).toBe(1);
  });

  it('pins the key that somebody gives, in the place of another or as the first', async () => {
    const bench = new PinnedBench();
    await bench.pin('i-0a', false);
    const key = 'AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f';
    for (const words of [[`ssh-ed25519 ${key} root@ip-10-0-0-5`], ['ssh-ed25519', key]]) {
      for (const host of ['i-0a', '[::1]:2222']) {
        expect(await bench.run(['hostkey', 'pin', host, ...words])).toMatchObject({
          code: 0,
          stdout: expect.stringMatching(/: known by ssh-ed25519 SHA256:\S{43} from now on\n$/) as string,
        });
      }
    }
    const { stdout } = await bench.run(['hostkey', 'list']);
    expect(stdout).toMatch(/^i-0a +ssh-ed25519 .* True/m);
    expect(stdout).toMatch(/^\[::1\]:2222 +ssh-ed25519 .* True/m);
    for (const wrong of [
      [],
      ['i-0a'],
      ['i-0a', key],
      ['i-0a', 'ssh-rsa', key],
      ['i-0a', 'ssh-ed25519', `${key.slice(0, -1)}!`],
    ])
      expect(await bench.run(['hostkey', 'pin', ...wrong])).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('which key?') as string,
      });
  });
});
