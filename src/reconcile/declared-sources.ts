import type { DesiredPlugin } from '../domain/plan.ts';
import { parseSourceRef } from '../domain/source.ts';
import type { DeclaredSource } from '../ports/metrics.ts';

/**
 * What a workspace declares, for the alarm over sources that nobody follows. Whether a declaration is pinned is told from
 * the texts alone: it names the very revision that was found. The flag by which sources are chosen for following
 * is not asked, since a fault in that is what the alarm is for; and what could not be resolved counts as moving. What no
 * source can read has nobody who could be asked: its scheme is unknown.
 */
export function declaredSources(
  plugins: readonly DesiredPlugin[],
  schemes: readonly string[],
): readonly DeclaredSource[] {
  return plugins.map((plugin) => {
    const written = parseSourceRef(plugin.source)?.scheme;
    // The one text of the registry: a whole fleet's would be as many, each keeping its source alive.
    const scheme = schemes.find((one) => one === written);
    const isPinned = plugin.kind === 'resolved' && plugin.source.includes(plugin.revision);
    const isReadable = plugin.kind === 'resolved' || plugin.error.reason !== 'InvalidSource';
    return {
      scheme: isReadable && scheme !== undefined ? scheme : 'unknown',
      tracking: isPinned ? 'pinned' : 'moving',
    };
  });
}
