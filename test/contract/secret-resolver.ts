import { createHash } from 'node:crypto';

import { expect } from 'vitest';

import type { WorkspaceKey } from '../../src/domain/name.ts';
import type { SecretReference } from '../../src/domain/plugin-settings.ts';
import type { SecretResolver } from '../../src/ports/secret-resolver.ts';
import { describeCases, type Cases, type Unsupported } from './cases.ts';

/** A place where one secret may lie, which a workspace may refer to. */
export interface SecretBackend {
  readonly resolver: SecretResolver;
  readonly workspace: WorkspaceKey;
  readonly reference: SecretReference;
  /** What this workspace may not refer to, though it is there. */
  readonly forbidden: readonly { readonly workspace: WorkspaceKey; readonly reference: SecretReference }[];
  /** Makes it, or makes it another one. */
  put(value: Uint8Array): Promise<void>;
  remove(): Promise<void>;
  /** Cannot be looked at from now on. */
  break(): Promise<void>;
  dispose(): Promise<void>;
}

export interface SecretHarness {
  create(): Promise<SecretBackend>;
  /** Cases that cannot hold here, by name, each with the reason. A name that is no case fails the suite. */
  readonly unsupported?: Unsupported;
}

interface CaseContext extends SecretBackend {
  readonly signal: AbortSignal;
  /** Both questions: each must fail the same way. */
  ask(): readonly (() => Promise<unknown>)[];
}

export function describeSecretResolver(name: string, harness: SecretHarness): void {
  describeCases(`SecretResolver: ${name}`, CASES, harness.unsupported, async (later): Promise<CaseContext> => {
    const backend = await harness.create();
    later(() => backend.dispose());
    const { signal } = new AbortController();
    const { resolver, reference, workspace } = backend;
    const ask = (): readonly (() => Promise<unknown>)[] => [
      () => resolver.version(reference, workspace, signal),
      () => resolver.resolve(reference, workspace, signal),
    ];
    return { ...backend, signal, ask };
  });
}

const VALUE = 'hush, "quoted"\nand ½';

const CASES: Cases<CaseContext> = {
  'a value comes as it is, with the version that was told before': async (context) => {
    const { resolver, reference, workspace, signal } = context;
    await context.put(Buffer.from(VALUE));
    const version = await resolver.version(reference, workspace, signal);
    expect(await resolver.resolve(reference, workspace, signal)).toEqual({ value: VALUE, version });
    expect(await resolver.version(reference, workspace, signal)).toBe(version);
  },

  'another value has another version': async (context) => {
    const { resolver, reference, workspace, signal } = context;
    await context.put(Buffer.from(VALUE));
    const first = await resolver.version(reference, workspace, signal);
    await context.put(Buffer.from('other'));
    const second = await resolver.resolve(reference, workspace, signal);
    expect(second.value).toBe('other');
    expect(second.version).not.toBe(first);
  },

  'a version tells nothing of the value': async (context) => {
    const { resolver, reference, workspace, signal } = context;
    await context.put(Buffer.from('1234'));
    const version = await resolver.version(reference, workspace, signal);
    expect(version).not.toContain('1234');
    expect(version).not.toContain(createHash('sha256').update('1234').digest('hex').slice(0, 8));
  },

  'what is not there is waited for': async ({ ask }) => {
    for (const question of ask())
      await expect(question()).rejects.toMatchObject({ class: 'waiting', reason: 'ConfigNotDelivered' });
  },

  'what has gone is waited for': async (context) => {
    await context.put(Buffer.from(VALUE));
    await context.remove();
    for (const question of context.ask())
      await expect(question()).rejects.toMatchObject({ class: 'waiting', reason: 'ConfigNotDelivered' });
  },

  'what the workspace may not refer to is refused for good, and no word of it is told': async (context) => {
    await context.put(Buffer.from(VALUE));
    expect(context.forbidden.length).toBeGreaterThan(0);
    for (const { workspace, reference } of context.forbidden) {
      for (const asked of ['version', 'resolve'] as const) {
        const refused = context.resolver[asked](reference, workspace, context.signal);
        await expect(refused).rejects.toMatchObject({ reason: 'ConfigNotDelivered' });
        await expect(refused).rejects.not.toThrow(VALUE);
      }
    }
  },

  'what is no text is refused for good': async (context) => {
    const { resolver, reference, workspace, signal } = context;
    await context.put(Buffer.from([0x68, 0xff, 0xfe, 0x00]));
    await expect(resolver.resolve(reference, workspace, signal)).rejects.toMatchObject({
      class: 'terminal',
      reason: 'ConfigNotDelivered',
    });
  },

  'what cannot be looked at is not said to be away': async (context) => {
    await context.put(Buffer.from(VALUE));
    await context.break();
    for (const question of context.ask()) await expect(question()).rejects.toMatchObject({ class: 'transient' });
  },

  'a question that was called off ends': async (context) => {
    const { resolver, reference, workspace } = context;
    await context.put(Buffer.from(VALUE));
    const off = AbortSignal.abort();
    await expect(resolver.version(reference, workspace, off)).rejects.toBeInstanceOf(Error);
    await expect(resolver.resolve(reference, workspace, off)).rejects.toBeInstanceOf(Error);
  },
};
