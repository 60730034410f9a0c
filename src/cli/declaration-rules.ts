import { posix } from 'node:path';

import { allProblems, type ParsedManifest } from '../adapters/files/parse-workspace-file.ts';
import type { AllowedHosts } from '../domain/access.ts';
import { allowedPlace } from '../domain/allowed-host.ts';
import { definedOnly } from '../domain/defined-only.ts';
import { ReconcileError } from '../domain/errors.ts';
import { splitWorkspaceKey } from '../domain/name.ts';
import { findProfile, type RuntimeProfile } from '../domain/profile.ts';
import { overruledPolicy, targetKind, type LockablePolicy, type Policy, type TargetSpec } from '../domain/workspace.ts';
import type { SourceGrammar } from './context.ts';
import type { DeclarationFile } from './declarations.ts';

/** What is wrong with a declaration that the schema lets through: `file:line:column: what`. May remember those before. */
export type Rule = (declared: ParsedManifest) => readonly string[];

/** What is wrong with files and between them, in the order of the files. */
export function findProblems(files: readonly DeclarationFile[], rules: readonly Rule[]): readonly string[] {
  const firstOrigins = new Map<string, string>();
  return files.flatMap(({ parsed }) => [
    ...allProblems(parsed),
    ...parsed.documents.flatMap((document) => {
      const { key, origin } = document;
      const first = firstOrigins.get(key);
      if (first === undefined) firstOrigins.set(key, origin);
      return [
        ...(first === undefined ? [] : [`${origin}:1: workspace ${key} is declared already in ${first}`]),
        ...(document.kind === 'manifest' ? rules.flatMap((rule) => rule(document)) : []),
      ];
    }),
  ]);
}

/** Whether a place is allowed or exists is for the daemon to say: this machine need not be the one that it runs on. */
export function sourcesAreReadable(grammar: SourceGrammar): Rule {
  return ({ manifest, origin, pluginOrigins }) =>
    manifest.spec.plugins.flatMap(({ name, source }, index) => {
      const problem = sourceProblem(source, grammar);
      const line = pluginOrigins[index];
      return problem === undefined ? [] : [`${line === undefined ? origin : `${line}:1`}: plugin ${name}: ${problem}`];
    });
}

function sourceProblem(source: string, grammar: SourceGrammar): string | undefined {
  try {
    grammar.parse(source);
    return undefined;
  } catch (error) {
    if (error instanceof ReconcileError) return error.message;
    throw error;
  }
}

/** An external workspace is never looked at, so its runtime is its own affair. */
export function runtimesAreKnown(profiles: readonly RuntimeProfile[]): Rule {
  return ({ manifest: { spec }, runtimeAt, targetAt }) => {
    const kind = targetKind(spec.target);
    if (kind === 'external') return [];
    const profile = findProfile(profiles, spec.runtime);
    if (profile === undefined) {
      const known = profiles.map(({ runtime }) => runtime).join(', ');
      return [`${runtimeAt}: spec.runtime: ${spec.runtime} has no profile; known: ${known} (--config can add others)`];
    }
    if (profile.configDir[kind] !== undefined) return [];
    return [
      `${targetAt}: spec.target: the profile of runtime ${spec.runtime} has no config directory for ${kind} targets`,
    ];
  };
}

/** For who has the configuration of the daemon at hand: an engine that it does not name is not there. */
export function enginesAreKnown(names: readonly string[]): Rule {
  return ({ manifest: { spec }, targetAt }) => {
    const engine = 'docker' in spec.target ? (spec.target.docker.engine ?? 'default') : undefined;
    if (engine === undefined || names.includes(engine)) return [];
    return [`${targetAt}: spec.target: engine ${engine} is not configured; known: ${names.join(', ') || 'none'}`];
  };
}

/** The same for hosts: one that `targets.ssh` does not allow for the workspace is refused. */
export function hostsAreAllowed(entries: readonly AllowedHosts[]): Rule {
  return ({ key, manifest: { spec }, targetAt }) => {
    if (!('ssh' in spec.target)) return [];
    try {
      allowedPlace(key, spec.target.ssh, entries);
      return [];
    } catch (error) {
      if (error instanceof ReconcileError) return [`${targetAt}: spec.target: ${error.message}`];
      throw error;
    }
  };
}

/** Nothing is wrong with these, but they get another policy than they ask for. */
export function overruledIn(
  files: readonly DeclarationFile[],
  policy: Policy,
  lockedPolicy: readonly LockablePolicy[],
): readonly string[] {
  return files.flatMap(({ parsed }) =>
    parsed.documents.flatMap((document) => {
      if (document.kind !== 'manifest') return [];
      const ownPolicy: Partial<Policy> = definedOnly(document.manifest.spec.policy ?? {});
      const overruled = overruledPolicy({ ownPolicy, policy, lockedPolicy });
      return overruled.map((text) => `${document.origin}: workspace ${document.key}: ${text}`);
    }),
  );
}

/** Of two workspaces on one target at most one is ever converged (`TargetClaimed`). */
export function targetsAreApart(): Rule {
  const first = new Map<string, ParsedManifest>();
  return (declared) => {
    const target = nameOf(declared);
    if (target === undefined) return [];
    const before = first.get(target);
    if (before === undefined || before.key === declared.key) {
      first.set(target, declared);
      return [];
    }
    return [
      `${declared.targetAt}: spec.target: ${target} is the target of workspace ${before.key} too (${before.targetAt})`,
    ];
  };
}

/** What the declaration alone says of it; `undefined` where labels decide. */
function nameOf({ key, manifest: { spec } }: ParsedManifest): string | undefined {
  const { target } = spec;
  if ('directory' in target) return `directory ${posix.resolve('/', target.directory.path)}`;
  if ('ssh' in target) return `host ${target.ssh.host} port ${target.ssh.port ?? 22}`;
  if ('ec2' in target) return target.ec2.instanceId === undefined ? undefined : `instance ${target.ec2.instanceId}`;
  if ('pod' in target) return namedPod(splitWorkspaceKey(key).namespace, target.pod);
  if ('external' in target || target.docker.container === undefined) return undefined;
  return `container ${target.docker.container} on engine ${target.docker.engine ?? 'default'}`;
}

function namedPod(namespace: string, { name, container }: PodTarget): string | undefined {
  if (name === undefined) return undefined;
  return `${container === undefined ? '' : `container ${container} of `}pod ${namespace}/${name}`;
}

type PodTarget = Extract<TargetSpec, { readonly pod: unknown }>['pod'];
