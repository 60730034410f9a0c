import type { PluginName } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';
import { isManaged, type DesiredPlugin } from '../domain/plan.ts';
import type { DeclaredPlugin, Workspace } from '../domain/workspace.ts';

/** One plugin as it is on a target, and where it came from, as far as that can be told. */
export interface SurveyedPlugin {
  readonly name: PluginName;
  readonly version: string | undefined;
  /** Installed by plugset, this one or another. */
  readonly managed: boolean;
  /** What to declare to get just this tree; `undefined` where nobody can say. */
  readonly source: string | undefined;
  readonly revision: string | undefined;
  /** Something there differs from what the source holds, or held when it was installed. */
  readonly edited: boolean;
  /** A source that has a plugin of this name, with other files. */
  readonly unlike?: string;
}

/** Of a foreign directory only its name is known: the local registry may have a plugin of that name with the same files. */
export function guessSources(observation: Observation, workspace: Workspace): readonly DeclaredPlugin[] {
  const declared = new Map(workspace.plugins.map((plugin) => [plugin.name, plugin]));
  return observation.plugins
    .filter((found) => found.present && !isManaged(found))
    .map(({ name }) => declared.get(name) ?? { name, source: name, origin: 'the local registry' });
}

/** What a second look, which compared foreign directories with the guesses, has shown. */
export function surveyOf(observation: Observation, guesses: readonly DesiredPlugin[]): readonly SurveyedPlugin[] {
  const guessed = new Map(guesses.map((guess) => [guess.name, guess]));
  return observation.plugins
    .filter((found) => found.present)
    .map((found): SurveyedPlugin => {
      const { name, receipt, manifest } = found;
      const common = { name, version: manifest.version, managed: isManaged(found) };
      if (receipt !== undefined) {
        const edited = found.differing.length > 0 || found.listDigest !== receipt.digest;
        return { ...common, source: receipt.source, revision: receipt.revision, edited };
      }
      const guess = guessed.get(name);
      if (found.equalToDesired === true && guess?.kind === 'resolved')
        return { ...common, source: guess.source, revision: guess.revision, edited: false };
      const unknown = { ...common, source: undefined, revision: undefined, edited: false };
      return found.equalToDesired === false && guess?.kind === 'resolved'
        ? { ...unknown, unlike: guess.source }
        : unknown;
    });
}
