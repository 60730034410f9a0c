import { terminal } from '../domain/errors.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { parseSourceRef, withoutCredentials } from '../domain/source.ts';
import type { ParsedSource, PluginSource } from '../ports/plugin-source.ts';

/** Schemes by name. Registration is the whole of adding one. */
export class SourceRegistry {
  readonly #byScheme = new Map<string, PluginSource>();

  constructor(sources: readonly PluginSource[]) {
    for (const source of sources) {
      for (const scheme of source.schemes) this.#byScheme.set(scheme, source);
    }
  }

  /** Every scheme there is. */
  get schemes(): readonly string[] {
    return [...this.#byScheme.keys()];
  }

  /** As {@link PluginSource.parse}. Throws `InvalidSource` (terminal) for bad grammar or an unknown scheme. */
  parse(text: string, asker?: WorkspaceKey): ParsedSource {
    const ref = parseSourceRef(text);
    if (ref === undefined) {
      throw terminal(
        'InvalidSource',
        `${JSON.stringify(withoutCredentials(text))} is neither a plugin name nor scheme://spec`,
      );
    }
    return this.sourceOf(ref.scheme).parse(ref, asker);
  }

  /** Throws `InvalidSource` (terminal) that lists the known schemes. */
  sourceOf(scheme: string): PluginSource {
    const source = this.#byScheme.get(scheme);
    if (source === undefined) {
      const known = this.schemes.toSorted().join(', ');
      // What a forge shows for copying.
      const hint = this.#byScheme.has(`git+${scheme}`) ? `; a Git repository is git+${scheme}://` : '';
      throw terminal('InvalidSource', `unknown scheme ${scheme}://; this plugset knows ${known}${hint}`);
    }
    return source;
  }
}
