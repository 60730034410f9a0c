import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import { openKubeconfig } from '../../../../src/adapters/kube/kubeconfig.ts';
import { eventually } from '../../../support/eventually.ts';
import { tempDir } from '../../../support/temp-dir.ts';

const never = new AbortController().signal;

let directory: string;
beforeEach(async () => {
  directory = await tempDir();
});

interface Parts {
  readonly name?: string;
  readonly current?: string;
  readonly cluster?: object;
  readonly user?: object;
}

/** JSON is YAML. */
async function kubeconfig(file: string, { name = 'dev', current = name, cluster, user }: Parts = {}): Promise<string> {
  const path = join(directory, file);
  const config = {
    clusters: [{ name, cluster: { server: `https://${name}:6443`, ...cluster } }],
    users: [{ name, user: user ?? { token: `token-of-${name}` } }],
    contexts: [{ name, context: { cluster: name, user: name, namespace: 'team-a' } }],
    'current-context': current,
  };
  await writeFile(path, JSON.stringify(config));
  return path;
}

describe('a kubeconfig', () => {
  it('says where, as whom, whom to believe and in which namespace', async () => {
    const [ca, cert, key] = ['CA', 'CERT', 'KEY'].map((text) => Buffer.from(text));
    const path = await kubeconfig('config', {
      cluster: { 'certificate-authority-data': ca?.toString('base64'), 'tls-server-name': 'k8s.example' },
      user: {
        'client-certificate-data': cert?.toString('base64'),
        'client-key-data': key?.toString('base64'),
        as: 'jo',
      },
    });
    const read = await openKubeconfig({ paths: [path] });
    expect(await read(never)).toEqual({
      server: new URL('https://dev:6443'),
      tls: { ca, cert, key, servername: 'k8s.example' },
      headers: { 'Impersonate-User': 'jo' },
      namespace: 'team-a',
    });
  });

  it('names files beside itself, which are read again each time', async () => {
    await writeFile(join(directory, 'ca.pem'), 'CA1');
    const path = await kubeconfig('config', { cluster: { 'certificate-authority': 'ca.pem' } });
    const read = await openKubeconfig({ paths: [path] });
    expect((await read(never)).tls).toEqual({ ca: Buffer.from('CA1') });
    await writeFile(join(directory, 'ca.pem'), 'CA2');
    expect((await read(never)).tls).toEqual({ ca: Buffer.from('CA2') });
  });

  it('names a file with a token, as kubectl has it: before a token, and without its line break', async () => {
    await writeFile(join(directory, 'token'), 'from-file\n');
    const path = await kubeconfig('config', { user: { tokenFile: 'token', token: 'from-config' } });
    const read = await openKubeconfig({ paths: [path] });
    expect((await read(never)).headers).toEqual({ Authorization: 'Bearer from-file' });
    await writeFile(join(directory, 'token'), 'renewed\n');
    // Remembered for a minute; whoever is refused opens the kubeconfig again.
    const again = await openKubeconfig({ paths: [path] });
    expect((await again(never)).headers).toEqual({ Authorization: 'Bearer renewed' });
  });

  it('has a user with a password', async () => {
    const path = await kubeconfig('config', { user: { username: 'jo', password: 'x:y' } });
    const { headers } = await (await openKubeconfig({ paths: [path] }))(never);
    expect(headers).toEqual({ Authorization: `Basic ${Buffer.from('jo:x:y').toString('base64')}` });
  });

  it('may name a server without encryption, such as kubectl proxy, which learns no credential, as of kubectl', async () => {
    const user = { token: 'secret', as: 'jo', exec: { command: join(directory, 'never-asked') } };
    const path = await kubeconfig('config', { cluster: { server: 'http://127.0.0.1:8001' }, user });
    expect(await (await openKubeconfig({ paths: [path] }))(never)).toEqual({
      server: new URL('http://127.0.0.1:8001'),
      tls: {},
      headers: {},
      namespace: 'team-a',
    });
  });

  it('has credentials for a server without encryption only where it says that nobody has to prove who he is', async () => {
    const cluster = { server: 'http://127.0.0.1:8001', 'insecure-skip-tls-verify': true };
    const path = await kubeconfig('config', { cluster });
    const { headers } = await (await openKubeconfig({ paths: [path] }))(never);
    expect(headers).toEqual({ Authorization: 'Bearer token-of-dev' });
  });

  it('has a plug-in, which is asked when its credential is over, and anew when it is opened anew', async () => {
    const plugin = join(directory, 'plugin');
    const script = `#!${process.execPath}
      const { appendFileSync, readFileSync } = require('node:fs');
      appendFileSync(process.argv[2], 'x');
      const token = 'token-' + readFileSync(process.argv[2], 'utf8').length;
      const status = { token, expirationTimestamp: new Date(Date.now() + 3_600_000).toISOString() };
      console.log(JSON.stringify({ apiVersion: 'client.authentication.k8s.io/v1', kind: 'ExecCredential', status }));`;
    await writeFile(plugin, script);
    await chmod(plugin, 0o755);
    const path = await kubeconfig('config', { user: { exec: { command: plugin, args: [join(directory, 'asked')] } } });
    const read = await openKubeconfig({ paths: [path] });
    for (let n = 0; n < 2; n++) expect((await read(never)).headers).toEqual({ Authorization: 'Bearer token-1' });
    const again = await openKubeconfig({ paths: [path] });
    expect((await again(never)).headers).toEqual({ Authorization: 'Bearer token-2' });
  });

  it('has a plug-in that hangs, and is ended when nobody waits for it any more', async () => {
    const asked = join(directory, 'asked');
    const script = `require('node:fs').writeFileSync(${JSON.stringify(asked)}, String(process.pid)); setInterval(() => {}, 1e9)`;
    const exec = { command: process.execPath, args: ['-e', script] };
    const read = await openKubeconfig({ paths: [await kubeconfig('config', { user: { exec } })] });
    const until = new AbortController();
    const reading = read(until.signal).catch((error: unknown) => error);
    const pid = await eventually(async () => {
      const text = await readFile(asked, 'utf8');
      expect(text).toMatch(/^\d+$/);
      return Number(text);
    });
    until.abort();
    expect(await reading).toMatchObject({ class: 'transient', reason: 'AuthenticationFailed' });
    await eventually(() => expect(() => process.kill(pid, 0)).toThrow('ESRCH'));
  });

  it('has a plug-in that fails: its words go to no message', async () => {
    const exec = { command: process.execPath, args: ['-e', 'console.error("password: hunter2"); process.exit(3)'] };
    const read = await openKubeconfig({ paths: [await kubeconfig('config', { user: { exec } })] });
    const error = await read(never).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ class: 'transient', reason: 'AuthenticationFailed' });
    expect((error as Error).message).toContain(`the credential plug-in ${process.execPath} gave none`);
    expect((error as Error).message).not.toContain('hunter2');
  });
});

describe('several kubeconfigs', () => {
  it('are one: the first to name something has named it, and some may be missing', async () => {
    const paths = [
      join(directory, 'missing'),
      await kubeconfig('one', { name: 'dev', user: { token: 'first' } }),
      await kubeconfig('two', { name: 'dev', user: { token: 'second' } }),
      await kubeconfig('three', { name: 'prod' }),
    ];
    const dev = await (await openKubeconfig({ paths }))(never);
    expect([dev.server.host, dev.headers['Authorization']]).toEqual(['dev:6443', 'Bearer first']);
    const prod = await (await openKubeconfig({ paths, context: 'prod' }))(never);
    expect([prod.server.host, prod.headers['Authorization']]).toEqual(['prod:6443', 'Bearer token-of-prod']);
  });
});

describe('what is of no use', () => {
  const NO_URL = /config: the server of cluster dev is no URL that begins with https:\/\/ or http:\/\/$/;
  it.each([
    ['a context that is not there', { context: 'prod' }, /context prod is not there, .*; its contexts are: dev$/],
    ['no current context', {}, /no current-context is set; name one of its contexts \(dev\)$/, { current: '' }],
    ['a server without a scheme', {}, NO_URL, { cluster: { server: 'localhost:8080' } }],
    ['a server that is no URL', {}, NO_URL, { cluster: { server: 'https://' } }],
    ['a proxy', {}, /is behind a proxy-url, which plugset cannot use$/, { cluster: { 'proxy-url': 'http://p' } }],
  ])('is %s', async (_, options, message, parts: Parts = {}) => {
    const paths = [await kubeconfig('config', parts)];
    await expect(openKubeconfig({ paths, ...options })).rejects.toMatchObject({
      class: 'terminal',
      reason: 'InvalidSpec',
      message: expect.stringMatching(message) as string,
    });
  });

  it('is a file that is missing, or no kubeconfig; nothing of its text is said', async () => {
    const missing = join(directory, 'missing');
    await expect(openKubeconfig({ paths: [missing] })).rejects.toThrow(`${missing} cannot be read (ENOENT)`);
    const broken = join(directory, 'broken');
    await writeFile(broken, 'users: [{name: jo, user: {token: hunter2}}\n  - what: "');
    const error = await openKubeconfig({ paths: [broken] }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ reason: 'InvalidSpec', message: `${broken} is no kubeconfig that can be used` });
    expect(JSON.stringify(error) + String((error as Error).cause)).not.toContain('hunter2');
  });
});
