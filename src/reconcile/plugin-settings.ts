import { sha256, hexOf } from '../domain/digest.ts';
import { terminal, type ReconcileError } from '../domain/errors.ts';
import type { PluginName } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';
import type { Plan, PlanEntry, ResolvedPlugin } from '../domain/plan.ts';
import {
  parseSettings,
  renderSettings,
  SETTINGS_DIRECTORY,
  SETTINGS_MODE,
  settingsBasePath,
  settingsPath,
  settingsReceiptPath,
  settingsRevision,
  type ObservedSettings,
  type SettingsFile,
  type SettingsReceipt,
  type SettingsValues,
} from '../domain/plugin-settings.ts';
import type { Expectation, Operation } from '../domain/transaction.ts';
import type { HostPlace } from '../ports/plugin-host.ts';
import type { SecretResolver } from '../ports/secret-resolver.ts';
import { lookUp } from './desired-settings.ts';
import type { Looks } from './looks.ts';
import type { Pass } from './pass.ts';

/** What a plan does to settings, concrete. */
export interface SettingsChanges {
  readonly operations: readonly Operation[];
  /** Plugins whose settings are left as they are, and why. */
  readonly failed: ReadonlyMap<PluginName, ReconcileError>;
}

/**
 * Looks secrets up and makes files of them. Takes a look more where somebody else's settings lie under ours: what those are
 * must be known to be kept.
 */
export async function planSettings(
  pass: Pass,
  place: HostPlace,
  { entries }: Plan,
  before: Observation,
  looks: Looks,
  secrets: SecretResolver,
): Promise<SettingsChanges> {
  const operations: Operation[] = [];
  const failed = new Map<PluginName, ReconcileError>();
  const concerned = entries.filter(({ settings }) => settings !== undefined);
  const isOverSomething = ({ plugin, settings }: PlanEntry): boolean =>
    settings === 'write' && baseOf(settingsIn(before, plugin)) !== undefined;
  const seen = concerned.some(isOverSomething) ? await looks.look(pass, place, 'settings') : before;
  for (const { plugin, settings } of concerned) {
    const observed = settingsIn(seen, plugin);
    if (settings === 'remove') {
      operations.push(...removal(plugin, observed));
      continue;
    }
    const made = await delivery(pass, plugin, observed, secrets);
    if (made instanceof Error) failed.set(plugin, made);
    else operations.push(...made);
  }
  const isLast = (seen.settings ?? []).every(
    ({ name, file, base }) =>
      file.kind === 'absent' ||
      (base.kind === 'absent' && entries.some((one) => one.plugin === name && one.settings === 'remove')),
  );
  if (isLast && concerned.length > 0 && concerned.every(({ settings }) => settings === 'remove'))
    operations.push({ kind: 'remove-directory', path: SETTINGS_DIRECTORY });
  return { operations, failed };
}

function settingsIn({ settings }: Observation, plugin: PluginName): ObservedSettings | undefined {
  return settings?.find(({ name }) => name === plugin);
}

/** What the settings lie over: what was saved of somebody else's, or what is there and not ours. */
function baseOf(found: ObservedSettings | undefined): SettingsFile | undefined {
  if (found === undefined) return undefined;
  if (found.base.kind !== 'absent') return found.base;
  return found.receiptFile.kind === 'absent' && found.file.kind !== 'absent' ? found.file : undefined;
}

async function delivery(
  pass: Pass,
  plugin: PluginName,
  found: ObservedSettings | undefined,
  secrets: SecretResolver,
): Promise<readonly Operation[] | ReconcileError> {
  const desired = pass.desired.plugins.find(({ name }) => name === plugin) as ResolvedPlugin | undefined;
  const wanted = desired?.settings;
  if (wanted === undefined) throw new Error(`settings are planned for ${plugin}, which declares none`);
  const base = baseValues(baseOf(found));
  if (base === undefined)
    return terminal(
      'ConfigNotDelivered',
      `plugin ${plugin}: ${settingsPath(plugin)} was there before, and is no JSON object of 64 KiB or less, so what of it is to be kept is unknown; correct it or take it away`,
    );
  const answers = await Promise.all(
    wanted.references.map((text) =>
      lookUp(plugin, text, (reference) => secrets.resolve(reference, pass.key, pass.signal)),
    ),
  );
  const values = new Map<string, string>();
  const versions: string[] = [];
  for (const [index, secret] of answers.entries()) {
    if (secret instanceof Error) return secret;
    values.set(wanted.references[index] ?? '', secret.value);
    versions.push(secret.version);
  }
  const content = Buffer.from(renderSettings(base, wanted, values));
  const receipt: SettingsReceipt = {
    format: 1,
    plugin,
    workspace: pass.key,
    revision: settingsRevision(wanted.declared, versions),
    sha256: hexOf(sha256(content)),
  };
  const path = settingsPath(plugin);
  const isOthers = found?.receiptFile.kind === 'absent' && found.file.kind === 'file' && found.base.kind === 'absent';
  return [
    ...(isOthers ? [{ kind: 'save-file', path } as const] : []),
    { kind: 'put-file', path, expect: expectationOf(found?.file), content, mode: SETTINGS_MODE },
    {
      kind: 'put-file',
      path: settingsReceiptPath(plugin),
      expect: expectationOf(found?.receiptFile),
      content: Buffer.from(`${JSON.stringify(receipt)}\n`),
      mode: SETTINGS_MODE,
    },
  ];
}

/** `undefined`: there is something, and what it says is unknown. */
function baseValues(base: SettingsFile | undefined): SettingsValues | undefined {
  if (base === undefined) return {};
  return base.kind === 'file' && base.text !== undefined ? parseSettings(base.text) : undefined;
}

/** What lay there before comes back, byte for byte. */
function removal(plugin: PluginName, found: ObservedSettings | undefined): readonly Operation[] {
  if (found === undefined) return [];
  const { file, receiptFile, base } = found;
  const path = settingsPath(plugin);
  const expect = expectationOf(file);
  const operations: Operation[] = [];
  if (base.kind === 'file') {
    const from = settingsBasePath(plugin);
    operations.push({ kind: 'copy-file', path, expect, from, sha256: base.sha256 });
    operations.push({ kind: 'remove-file', path: from, expect: expectationOf(base) });
  } else if (file.kind === 'file') {
    operations.push({ kind: 'remove-file', path, expect });
  }
  operations.push({ kind: 'remove-file', path: settingsReceiptPath(plugin), expect: expectationOf(receiptFile) });
  return operations;
}

function expectationOf(file: SettingsFile | undefined): Expectation {
  return file?.kind === 'file' ? { kind: 'sha256', sha256: file.sha256 } : { kind: 'absent' };
}
