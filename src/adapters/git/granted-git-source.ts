import { isFor, type CredentialFile } from '../../domain/access.ts';
import { hexOf, sha256 } from '../../domain/digest.ts';
import type { WorkspaceKey } from '../../domain/name.ts';
import type { SourceRef } from '../../domain/source.ts';
import type { ParsedSource, PluginSource, SourceEntry } from '../../ports/plugin-source.ts';
import { GIT_SCHEMES } from './address.ts';

/** Files with credentials that somebody may use. */
export interface Credentials {
  readonly credentialFiles: readonly string[];
  readonly sshKey: string | undefined;
}

export interface GrantedGitSourceOptions {
  readonly credentials: readonly CredentialFile[];
  readonly sshKey: CredentialFile | undefined;
  /** Makes the source that asks with these. */
  readonly create: (credentials: Credentials) => PluginSource;
}

interface Grant {
  readonly id: string;
  readonly source: PluginSource;
}

/**
 * Git repositories, each asked with the credentials of whoever declares it. Who has others shares neither answers nor files:
 * what a credential of one namespace has fetched must not be had by naming the same repository in another.
 */
export class GrantedGitSource implements PluginSource {
  readonly schemes: readonly string[] = GIT_SCHEMES;
  readonly #options: GrantedGitSourceOptions;
  readonly #byId = new Map<string, PluginSource>();
  /** By which of the files are granted: few, however many namespaces come and go. */
  readonly #grants = new Map<string, Grant>();
  readonly #ofNobody: Grant;

  constructor(options: GrantedGitSourceOptions) {
    this.#options = options;
    this.#ofNobody = this.#grant(({ namespaces }) => namespaces === undefined);
  }

  parse(ref: SourceRef, asker?: WorkspaceKey): ParsedSource {
    const { id, source } = asker === undefined ? this.#ofNobody : this.#grant((file) => isFor(asker, file));
    const parsed = source.parse(ref);
    return { ...parsed, group: `${parsed.group} ${id}`, grant: id };
  }

  async resolve(
    wanted: readonly ParsedSource[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<ParsedSource, string | Error>> {
    // All of one group, so of one grant.
    return this.#sourceOf(wanted[0]).resolve(wanted, signal);
  }

  fetch(source: ParsedSource, revision: string, signal: AbortSignal): AsyncIterable<SourceEntry> {
    return this.#sourceOf(source).fetch(source, revision, signal);
  }

  #grant(isGranted: (file: CredentialFile) => boolean): Grant {
    const { credentials, sshKey } = this.#options;
    const isSshGranted = sshKey !== undefined && isGranted(sshKey);
    const which = [...credentials.map(isGranted), isSshGranted].join();
    const known = this.#grants.get(which);
    if (known !== undefined) return known;
    const made = this.#newGrant({
      credentialFiles: credentials.filter(isGranted).map(({ file }) => file),
      sshKey: isSshGranted ? sshKey.file : undefined,
    });
    this.#grants.set(which, made);
    return made;
  }

  /** Its id outlives this process, in what was fetched. */
  #newGrant(granted: Credentials): Grant {
    const id = hexOf(sha256(JSON.stringify([granted.credentialFiles, granted.sshKey]))).slice(0, 12);
    const source = this.#byId.get(id) ?? this.#options.create(granted);
    this.#byId.set(id, source);
    return { id, source };
  }

  /** One that another configuration has parsed is asked with nobody's credentials. */
  #sourceOf(parsed: ParsedSource | undefined): PluginSource {
    return this.#byId.get(parsed?.grant ?? '') ?? this.#ofNobody.source;
  }
}
