import { mkdir, rename, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import type { Message } from '../../src/adapters/webhook/message.ts';
import { API_VERSION } from '../../src/domain/workspace.ts';
import { eventually } from '../support/eventually.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';
import { tempDir } from '../support/temp-dir.ts';

/** A whole daemon, and somebody who is told by it. */
describe('a webhook', () => {
  const messages: Message[] = [];
  let isHanging = false;
  let requests = 0;
  const server = createServer((request, response) => {
    requests += 1;
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      if (isHanging) return;
      messages.push(JSON.parse(body) as Message);
      response.writeHead(204).end();
    });
  });
  let plugset: Plugset;
  let webhook: NonNullable<Plugset['config']['webhook']>;

  beforeEach(async () => {
    messages.length = 0;
    isHanging = false;
    requests = 0;
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const secretFile = join(await tempDir(), 'secret');
    await writeFile(secretFile, 'a secret that is long enough\n');
    webhook = { url: `http://127.0.0.1:${port}/`, secretFile, groupWindowMs: 300, on: ['Ready', 'NotReady'] };
    plugset = await startPlugset({ store: { kind: 'files' }, config: { webhook } });
    await writePlugin(join(plugset.dirs.registry, 'one'), { 'SKILL.md': 'one\n' });
  });
  afterEach(async () => {
    await plugset.stop();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  const declare = async (name: string): Promise<string> => {
    const path = join(plugset.dirs.root, name);
    await mkdir(path);
    const spec = { runtime: 'hermes', target: { directory: { path } }, plugins: [{ name: 'one', source: 'one' }] };
    await plugset.app.store.apply(
      { apiVersion: API_VERSION, kind: 'Workspace', metadata: { name }, spec },
      AbortSignal.timeout(60_000),
    );
    return path;
  };
  /** Events of one workspace, in order. */
  const told = (name: string): readonly string[] =>
    messages.flatMap(({ event, reason, workspaces }) =>
      workspaces.some((one) => one.name === name) ? [`${event} ${reason}`] : [],
    );

  it('is told what becomes of a workspace, under the settings of the moment', async () => {
    const home = await declare('alice');
    await eventually(() => expect(told('alice')).toEqual(['Ready Succeeded']));
    // A pass that is at it just then may fail in a way of its own first.
    await rename(home, join(plugset.dirs.git, 'alice'));
    await eventually(() => expect(told('alice').at(-1)).toBe('NotReady WorkspaceNotFound'));
    // Taken up without a restart, and under the new turn nothing is told again.
    plugset.app.reconfigure({ ...plugset.config, webhook: { ...webhook, on: ['Stalled', 'Ready'] } });
    await mkdir(home);
    await eventually(() => expect(told('alice').at(-1)).toBe('Ready Succeeded'));
    expect(told('alice').filter((event) => event === 'Ready Succeeded')).toHaveLength(2);
    expect(told('alice').filter((event) => event === 'NotReady WorkspaceNotFound')).toHaveLength(1);
  });

  it('that hangs keeps no pass waiting, and no end for long', async () => {
    isHanging = true;
    await declare('alice');
    await plugset.untilReady('alice');
    await eventually(() => expect(requests).toBe(1));
    await declare('bob');
    await plugset.untilReady('bob');
    expect(messages).toEqual([]);
  });
});
