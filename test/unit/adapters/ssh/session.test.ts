import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';

import { describe, expect, it, onTestFinished } from 'vitest';

import { createEphemeralKey } from '../../../../src/adapters/aws/ephemeral-key.ts';
import { execute } from '../../../../src/adapters/ssh/execute.ts';
import type { Trust } from '../../../../src/adapters/ssh/host-key-pins.ts';
import { SshSession } from '../../../../src/adapters/ssh/session.ts';
import { Deadline } from '../../../../src/ports/deadline.ts';
import type { SshEndpoint } from '../../../../src/ports/ssh-endpoint.ts';
import { eventually } from '../../../support/eventually.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import {
  askForProof,
  connectedTo,
  hostileSshd,
  keepDoing,
  obliging,
  type Victim,
} from '../../../support/hostile-sshd.ts';

const SIGNAL = new AbortController().signal;
const MIB = 1024 * 1024;
const USERAUTH_PK_OK = 60;
const CHUNK_BYTES = 64 * 1024;
/** The number that the client gives its first channel. */
const FIRST_CHANNEL = 0;

interface Prey {
  readonly session: SshSession;
  /** Our end of the connection. */
  readonly stream: Socket;
  /** The other end. */
  readonly victim: Victim;
  readonly clock: FakeClock;
}

/** Logged in to a server of the kind that no sshd is. */
async function loggedIn(behave: (victim: Victim) => void): Promise<Prey> {
  let victim: Victim | undefined;
  const { port } = await hostileSshd((one) => {
    victim = one;
    behave(one);
  });
  const stream = await connectedTo(port);
  const clock = new FakeClock();
  const session = await SshSession.open(loginOver(stream), clock, SIGNAL);
  if (victim === undefined) throw new Error('nobody was connected to');
  return { session, stream, victim, clock };
}

function loginOver(stream: Socket) {
  const endpoint = { description: 'the host', user: 'ubuntu' } as SshEndpoint;
  const credential = { kind: 'key', origin: 'the test', privateKey: createEphemeralKey().privateKey } as const;
  const trust = {
    expected: [],
    isVerified: false,
    accepts: () => true,
    refusal: () => new Error('another key'),
  } as unknown as Trust;
  return { endpoint, stream, credential, trust };
}

/** Waits until the connection is gone, and says why. */
async function endOf({ session, stream }: Prey): Promise<string> {
  if (session.isUsable) await once(session.gone, 'abort');
  expect(stream.destroyed).toBe(true);
  return (session.gone.reason as Error).message;
}

function takeAtMost(packetBytes: number): (victim: Victim) => void {
  return (victim) => {
    obliging(victim);
    const { protocol } = victim;
    const confirm = protocol.channelOpenConfirm.bind(protocol);
    protocol.channelOpenConfirm = (remote, local, window) => confirm(remote, local, window, packetBytes);
  };
}

/** Waits until it has begun to move and moves no more, however often others have their turn. */
async function standstill(value: () => number): Promise<void> {
  let rounds = 0;
  for (let before = value(); rounds < 200; rounds = before > 0 && value() === before ? rounds + 1 : 0) {
    before = value();
    await new Promise((resolve) => void setImmediate(resolve));
  }
}

it.each([0, 1])('writes to no channel of a host that takes %i bytes at once', async (bytes) => {
  const { session: commands } = await loggedIn(takeAtMost(bytes));
  expect(await commands.start('true', SIGNAL)).toMatchObject({ kind: 'lost' });
  expect(commands.isUsable).toBe(false);

  const { session: streams } = await loggedIn(takeAtMost(bytes));
  await expect(streams.openSocket('/run/a.sock', SIGNAL)).rejects.toThrow('at once');
  expect(streams.isUsable).toBe(false);
});

it('writes to the channels of all others', async () => {
  const { session } = await loggedIn(takeAtMost(32 * 1024));
  expect(await session.start('true', SIGNAL)).toMatchObject({ kind: 'running' });
  await session.openSocket('/run/a.sock', SIGNAL);
  session.fault();
});

it('leaves the connection to others when a command is called off before it is asked for', async () => {
  const { session } = await loggedIn(obliging);
  expect(await session.start('true', AbortSignal.abort())).toMatchObject({ kind: 'unsent' });
  expect(session.isUsable).toBe(true);
  session.fault();
});

describe('a host that answers nothing to a command', () => {
  it('may run it when it closes the channel', async () => {
    const { session } = await loggedIn(({ connection, protocol }) => {
      connection.on('session', (accept) => void accept());
      protocol._handlers['CHANNEL_REQUEST'] = () => protocol.channelClose(FIRST_CHANNEL);
    });
    expect(await session.start('true', SIGNAL)).toMatchObject({ kind: 'lost' });
    expect(session.isUsable).toBe(true);
  });

  it('does not run it when it says so, and is left with no open channel', async () => {
    let closed = 0;
    const { session } = await loggedIn(({ connection, protocol }) => {
      connection.on('session', (accept) => void accept());
      protocol._handlers['CHANNEL_REQUEST'] = () => protocol.channelFailure(FIRST_CHANNEL);
      protocol._handlers['CHANNEL_CLOSE'] = () => (closed += 1);
    });
    expect(await session.start('true', SIGNAL)).toMatchObject({ kind: 'unsent' });
    await eventually(() => expect(closed).toBe(1));
  });
});

it('talks to no other host after an exchange of keys', async () => {
  const other = await loggedIn(obliging);
  const prey = await loggedIn(obliging);
  prey.victim.protocol._hostKeys = other.victim.protocol._hostKeys;
  prey.victim.protocol.rekey();
  expect(await endOf(prey)).toContain('verification failed');
  other.session.fault();
});

describe('a host that would have us hold much', () => {
  it('is let go of when it asks and does not take the answers', async () => {
    const prey = await loggedIn(obliging);
    prey.victim.socket.pause();
    keepDoing(prey.victim, () => askForProof(prey.victim, 30_000, true));
    expect(await endOf(prey)).toContain('does not take the answers');
  });

  it('is let go of when it wants much asked and answers nothing', async () => {
    const prey = await loggedIn(obliging);
    prey.victim.protocol._handlers['GLOBAL_REQUEST'] = () => undefined;
    keepDoing(prey.victim, () => askForProof(prey.victim, 100, false));
    expect(await endOf(prey)).toContain('does not answer');
  });

  it('is let go of when it wants one signature after another', async () => {
    const { port } = await hostileSshd((victim) => {
      const fine = Buffer.concat([Buffer.from([USERAUTH_PK_OK]), Buffer.alloc(8)]);
      victim.connection.once('authentication', () => {
        for (let index = 0; index < 100; index += 1) victim.say(fine);
      });
    });
    const opening = SshSession.open(loginOver(await connectedTo(port)), new FakeClock(), SIGNAL);
    await expect(opening).rejects.toMatchObject({ message: expect.stringContaining('signature') as string });
  });

  it('is let go of when it wants new keys all the time', async () => {
    const prey = await loggedIn(({ connection, protocol }) => connection.on('rekey', () => protocol.rekey()));
    prey.victim.protocol.rekey();
    expect(await endOf(prey)).toContain('new keys');
  });

  it('is let go of when it sends more than a channel has room for', async () => {
    const prey = await loggedIn(obliging);
    const stream = await prey.session.openSocket('/run/a.sock', SIGNAL);
    stream.pause();
    // ssh2 itself refuses more only when exactly nothing is left.
    const chunk = Buffer.alloc(30_000);
    keepDoing(prey.victim, () => prey.victim.protocol.channelData(FIRST_CHANNEL, chunk));
    expect(await endOf(prey)).toContain('more than it may');
  });

  it('is let go of when it closes no channel', async () => {
    const prey = await loggedIn(obliging);
    prey.victim.protocol._handlers['CHANNEL_CLOSE'] = () => undefined;
    const opening = async (): Promise<void> => {
      while (prey.session.isUsable) (await prey.session.openSocket('/run/a.sock', SIGNAL)).destroy();
    };
    await opening().catch(() => undefined);
    expect(await endOf(prey)).toContain('closes no channels');
  });

  it('is let go of when it has said good-bye and holds on to the connection', async () => {
    const prey = await loggedIn(obliging);
    prey.victim.socket.allowHalfOpen = true;
    prey.victim.protocol.disconnect(11);
    expect(await endOf(prey)).toContain('gone');
  });

  it('is not waited for with the good-bye', async () => {
    const prey = await loggedIn(obliging);
    prey.victim.socket.pause();
    keepDoing(prey.victim, () => {
      if (prey.stream.writableLength === 0) askForProof(prey.victim, 30_000, true);
    });
    await eventually(() => expect(prey.stream.writableLength).toBeGreaterThan(0));
    prey.session.end();
    expect(prey.session.isUsable).toBe(false);
    await prey.clock.advance(1_000);
    expect(prey.stream.destroyed).toBe(true);
  });

  it.each([
    ['whose window is huge', () => undefined],
    ['whose window is huge, in an exchange of keys without an end', ({ protocol }: Victim) => protocol.rekey()],
  ])('%s is sent no more than it takes', async (_which, then) => {
    const { session } = await loggedIn((victim) => {
      const { connection, protocol, socket } = victim;
      const confirm = protocol.channelOpenConfirm.bind(protocol);
      protocol.channelOpenConfirm = (remote, local) => confirm(remote, local, 2 ** 32 - 1, 32 * 1024);
      const stopListening = (start: () => void): void => {
        start();
        socket.pause();
        then(victim);
      };
      connection.on('session', (accept) => void accept().on('exec', stopListening));
    });
    let taken = 0;
    async function* source(): AsyncGenerator<Buffer> {
      for (; taken < 64 * MIB; taken += CHUNK_BYTES) yield Buffer.alloc(CHUNK_BYTES);
    }
    const running = execute(session, ['cat'], { mark: 'm', stdin: source() }, new Deadline(new FakeClock(), 1, SIGNAL));
    await standstill(() => taken);
    expect(taken).toBeGreaterThan(0);
    // What the kernel keeps of it is some MiB.
    expect(taken).toBeLessThan(32 * MIB);
    session.fault();
    expect(await running).toMatchObject({ kind: 'lost', ours: false });
  });

  it('is let go of when it greets without an end', async () => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      const greet = (): void => {
        if (!socket.destroyed) socket.write(`${'hello'.repeat(1_500)}\r\n`, () => setImmediate(greet));
      };
      greet();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const stream = await connectedTo((server.address() as AddressInfo).port);
    await expect(SshSession.open(loginOver(stream), new FakeClock(), SIGNAL)).rejects.toMatchObject({
      reason: 'Unreachable',
    });
    expect(stream.bytesRead).toBeLessThan(2 * MIB);
  });
});
