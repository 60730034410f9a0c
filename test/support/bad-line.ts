import { setTimeout as pause } from 'node:timers/promises';

import { ReconcileError } from '../../src/domain/errors.ts';
import type { ConvergeResult, PluginHost } from '../../src/ports/plugin-host.ts';
import type { WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import type { Machine } from './machine/machine.ts';

const FROZEN_MS = 100;
const THAWED_MS = 500;

/**
 * Stops the SSH server of a machine (SIGSTOP) for a moment, with all of its sessions, again and again until it is told not to.
 * Nothing else on it: `nsenter` stops along with what it has started, and nobody would wake it.
 */
export function stutter(machine: Machine): { stop(): Promise<void> } {
  const over = new AbortController();
  const tell = (...what: readonly string[]): Promise<unknown> =>
    machine.exec(['pkill', ...what]).catch(() => undefined);
  const freezing = (async () => {
    while (!over.signal.aborted) {
      await tell('-STOP', '-x', 'sshd');
      await pause(FROZEN_MS);
      // Everything: what was stopped between fork and exec has another name by now.
      await tell('-CONT', '.');
      await pause(THAWED_MS, undefined, { signal: over.signal }).catch(() => undefined);
    }
  })();
  return {
    stop: async () => {
      over.abort();
      await freezing;
    },
  };
}

/**
 * A host whose first apply, and every third after that, loses its connection in mid-transfer: then it is looked, and applied
 * again, as the next pass does.
 */
export function cutInApplies(host: PluginHost, cut: () => void): PluginHost {
  let applies = 0;
  const cutOff = (target: WorkspaceTarget): WorkspaceTarget => ({
    identity: target.identity,
    description: target.description,
    probe: (...args) => target.probe(...args),
    run: (argv, { stdin = nothing(), ...options }) => target.run(argv, { ...options, stdin: untilHalf(stdin, cut) }),
  });
  return {
    observe: (...args) => host.observe(...args),
    converge: async (place, request, signal): Promise<ConvergeResult> => {
      applies += 1;
      if (applies % 3 !== 1) return host.converge(place, request, signal);
      try {
        return await host.converge({ ...place, target: cutOff(place.target) }, request, signal);
      } catch (error) {
        if (!(error instanceof ReconcileError) || error.class !== 'unknown') throw error;
      }
      await host.observe(place, new Map(), signal);
      return host.converge(place, request, signal);
    },
  };
}

/** Cuts the connection to a target in the middle of what it is sent. Throws unless nobody knows what became of the command. */
export async function cutInTransfer(target: WorkspaceTarget, cut: () => void): Promise<void> {
  const stdin = untilHalf(pieces(Buffer.alloc(2_000_000)), cut);
  const { signal } = new AbortController();
  const result = await target.run(['cat'], { as: 'observer', stdin, deadlineMs: 30_000, signal });
  if (result.kind !== 'unknown') throw new Error(`the connection was cut, and yet the command has ${result.kind}`);
}

/** The first piece, half of the second, and then a cut. */
async function* untilHalf(stdin: AsyncIterable<Uint8Array>, cut: () => void): AsyncGenerator<Uint8Array> {
  let number = 0;
  for await (const piece of stdin) {
    number += 1;
    if (number !== 2) {
      yield piece;
      continue;
    }
    yield piece.subarray(0, piece.length >> 1);
    cut();
    yield piece.subarray(piece.length >> 1);
  }
}

async function* pieces(bytes: Buffer): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += 65_536) yield bytes.subarray(start, start + 65_536);
}

async function* nothing(): AsyncGenerator<Uint8Array> {}
