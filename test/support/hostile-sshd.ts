import { once } from 'node:events';
import { connect, type AddressInfo, type Socket } from 'node:net';

import ssh2, { type Connection } from 'ssh2';
import { onTestFinished } from 'vitest';

import { createEphemeralKey } from '../../src/adapters/aws/ephemeral-key.ts';

/** What ssh2's server does by itself, and a test has it do otherwise. */
export interface ServerProtocol {
  channelOpenConfirm: (remote: number, local: number, window: number, packetBytes: number) => void;
  channelData: (channel: number, data: Buffer) => void;
  channelFailure: (channel: number) => void;
  channelClose: (channel: number) => void;
  disconnect: (reason: number) => void;
  rekey: () => void;
  /** By their types. */
  _hostKeys: Record<string, unknown>;
  readonly _handlers: Record<string, (...args: never[]) => void>;
  readonly _cipher: { allocPacket: (bytes: number) => Buffer; encrypt: (packet: Buffer) => void };
}

/** One connection to it. */
export interface Victim {
  readonly connection: Connection;
  readonly socket: Socket;
  readonly protocol: ServerProtocol;
  /** Sends a message byte for byte. */
  say(payload: Buffer): void;
}

/** Runs an SSH server that obeys nobody but the test, and lets everybody in unless that has other plans; answers the way to it. */
export async function hostileSshd(behave: (victim: Victim) => void): Promise<{ readonly port: number }> {
  const sockets = new Set<Socket>();
  const options = { hostKeys: [createEphemeralKey().privateKey], ident: 'OpenSSH_9.6' };
  const server = new ssh2.Server(options, (connection) => {
    const { _sock: socket, _protocol: protocol } = connection as unknown as {
      readonly _sock: Socket;
      readonly _protocol: ServerProtocol;
    };
    sockets.add(socket);
    socket.setNoDelay();
    connection.on('error', () => undefined);
    const say = (payload: Buffer): void => {
      const packet = protocol._cipher.allocPacket(payload.length);
      payload.copy(packet, 5);
      protocol._cipher.encrypt(packet);
    };
    behave({ connection, socket, protocol, say });
    if (connection.listenerCount('authentication') === 0)
      connection.on('authentication', (attempt) => attempt.accept());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port };
}

/** Starts whatever it is asked for. */
export function obliging({ connection }: Victim): void {
  connection.on('session', (accept) => void accept().on('exec', (start) => void start()));
  connection.on('openssh.streamlocal' as 'session', (accept) => void accept());
}

/** Does `work` over and over as long as the victim is there, with time for others in between. */
export function keepDoing({ socket }: Victim, work: () => void): void {
  const again = (): void => {
    if (socket.destroyed) return;
    work();
    setImmediate(again);
  };
  again();
}

const GLOBAL_REQUEST = 80;
const REQUEST_FAILURE = 82;

/** Wants its host keys proven, which takes an answer as long as they are. `isAnswering`: to the answer, it says no in advance. */
export function askForProof({ say }: Victim, keyBytes: number, isAnswering: boolean): void {
  const key = Buffer.concat([field('ssh-rsa'), field(Buffer.from([1, 0, 1])), field(Buffer.alloc(keyBytes, 1))]);
  say(Buffer.concat([Buffer.from([GLOBAL_REQUEST]), field('hostkeys-00@openssh.com'), Buffer.from([0]), field(key)]));
  if (isAnswering) say(Buffer.from([REQUEST_FAILURE]));
}

/** A field of a message: its length goes before it. */
function field(content: string | Buffer): Buffer {
  const bytes = Buffer.from(content as string);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

export async function connectedTo(port: number): Promise<Socket> {
  const stream = connect({ port, host: '127.0.0.1', noDelay: true });
  await once(stream, 'connect');
  onTestFinished(() => void stream.destroy());
  return stream;
}
