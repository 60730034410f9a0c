import { transient } from '../domain/errors.ts';
import { contentsIn, isReadByLoader, type LoaderView, type PluginContent } from '../domain/loader.ts';
import type { Observation } from '../domain/observation.ts';
import type { Plan } from '../domain/plan.ts';
import { residueOf, type Residue } from '../domain/residue.ts';
import type { Artifact } from '../ports/artifacts.ts';
import type { HostPlace } from '../ports/plugin-host.ts';
import type { Looks } from './looks.ts';
import type { Pass } from './pass.ts';

const NOTHING_SEEN: LoaderView = { files: new Map(), others: new Set(), root: '' };
/** A restored tree is the one that a loader has seen, and what is adopted it sees already. */
const NEWS: ReadonlySet<string> = new Set(['install', 'replace', 'remove']);

/**
 * What a plan takes besides moving trees, computed from the look it was planned from. Takes a look more where that could not
 * be foreseen. `undefined`: nothing, or the runtime has no loader.
 */
export async function planResidue(
  pass: Pass,
  place: HostPlace,
  { entries }: Plan,
  observation: Observation,
  looks: Looks,
): Promise<Residue | undefined> {
  const { memoryFile } = place.profile;
  const news = entries.filter(({ action }) => NEWS.has(action));
  if (memoryFile === undefined || news.length === 0) return undefined;
  const present = observation.plugins.filter((plugin) => plugin.present);
  // What the runtime made of trees that somebody has deleted since is there still.
  const gone = entries.filter(
    ({ action, plugin }) => action === 'restore' && !present.some(({ name }) => name === plugin),
  );
  const isFirst = present.length + gone.length === 0;
  const view = isFirst ? NOTHING_SEEN : (observation.loader ?? (await looks.look(pass, place, 'loader')).loader);
  if (view === undefined)
    throw transient('ObserveFailed', `${pass.target}: what the runtime made of plugins could not be seen whole`);
  const seen = new Map(contentsIn(view).map((content) => [content.name, content]));
  const before: PluginContent[] = present.map(
    ({ name }) => seen.get(name) ?? { name, files: new Map(), texts: new Map() },
  );
  for (const { plugin } of gone) {
    const artifact = artifactOf(pass, plugin);
    if (artifact !== undefined) before.push(await contentOf(plugin, artifact, true));
  }
  const after = new Map(before.map((content) => [content.name, content]));
  for (const { plugin, action } of news) {
    const artifact = artifactOf(pass, plugin);
    if (action === 'remove') after.delete(plugin);
    else if (artifact !== undefined) after.set(plugin, await contentOf(plugin, artifact, !isFirst));
  }
  const uid = place.profile.owner === 'configDir' ? observation.owner.uid : place.profile.owner.uid;
  return residueOf({ view, memoryFile, configDir: place.configDir, uid, before, after: [...after.values()] });
}

function artifactOf({ desired }: Pass, plugin: PluginContent['name']): Artifact | undefined {
  const wanted = desired.plugins.find(({ name }) => name === plugin);
  return wanted?.kind === 'resolved' ? desired.artifacts.get(wanted.digest) : undefined;
}

/** Beside plugins that are there it matters what a new one says; a first one only makes what was there be saved. */
async function contentOf(name: PluginContent['name'], artifact: Artifact, withTexts: boolean): Promise<PluginContent> {
  const files = new Map(artifact.files.map(({ path, sha256 }) => [path, sha256]));
  const texts = new Map<string, string>();
  if (!withTexts || ![...files.keys()].some(isReadByLoader)) return { name, files, texts };
  for await (const { file, content } of artifact.open()) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of content) if (isReadByLoader(file.path)) chunks.push(chunk);
    if (isReadByLoader(file.path)) texts.set(file.path, Buffer.concat(chunks).toString('utf8'));
  }
  return { name, files, texts };
}
