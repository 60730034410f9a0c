import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { sha256, type Digest } from '../../../src/domain/digest.ts';
import { terminal, transient } from '../../../src/domain/errors.ts';
import { workspaceKey, type PluginName } from '../../../src/domain/name.ts';
import type { Observation, ObservedPlugin } from '../../../src/domain/observation.ts';
import { planChanges, type DesiredPlugin, type PlanInput, type ResolvedPlugin } from '../../../src/domain/plan.ts';
import { treeDigest } from '../../../src/domain/tree.ts';
import { DEFAULT_POLICY, type Policy } from '../../../src/domain/workspace.ts';

const KEY = workspaceKey('team-a', 'alice');

const name = (text: string): PluginName => text as PluginName;
const listsOf = (content: string) => ({ files: `${sha256(content).slice(7)}  SKILL.md\n`, executables: '' });

function resolved(plugin: string, content: string): ResolvedPlugin {
  const lists = listsOf(content);
  return {
    kind: 'resolved',
    name: name(plugin),
    source: `local://${plugin}`,
    origin: `alice.yaml:${plugin}`,
    revision: `r-${content}`,
    digest: treeDigest(lists),
    lists,
    manifest: {},
  };
}

function installed(plugin: string, content: string, over: Partial<ObservedPlugin> = {}): ObservedPlugin {
  const lists = listsOf(content);
  return {
    name: name(plugin),
    manifest: {},
    present: true,
    differing: [],
    listDigest: treeDigest(lists),
    filesSha256: sha256(lists.files).slice(7),
    receipt: {
      format: 1,
      plugin: name(plugin),
      workspace: KEY,
      authority: 'us',
      source: `local://${plugin}`,
      revision: `r-${content}`,
      digest: treeDigest(lists),
    },
    ...over,
  };
}

const unmanaged = (plugin: string, equalToDesired?: boolean): ObservedPlugin => ({
  name: name(plugin),
  manifest: {},
  present: true,
  differing: [],
  equalToDesired,
});

function look(...plugins: readonly ObservedPlugin[]): Observation {
  return { owner: { uid: 0, gid: 0 }, plugins, odd: [], journalPending: false };
}

function plan(
  desired: readonly DesiredPlugin[],
  observation: Observation,
  policy: Partial<Policy> = {},
  converged: Record<string, Digest> = {},
  formerOwners: readonly string[] = [],
) {
  const input: PlanInput = {
    workspace: KEY,
    runtime: 'claude-code',
    desired,
    observation,
    policy: { ...DEFAULT_POLICY, ...policy },
    target: 'machine-1',
    lastConverged: new Map(Object.entries(converged) as [PluginName, Digest][]),
    formerOwners: new Set(formerOwners),
  };
  const { plan: made, verdicts } = planChanges(input);
  return {
    id: made.id,
    changes: made.entries.map((entry) => `${entry.cause} ${entry.action} ${entry.plugin}`),
    states: Object.fromEntries(verdicts.map((one) => [one.name, `${one.state} ${one.reason}`])),
    verdicts,
    entries: made.entries,
  };
}

describe('planChanges', () => {
  const cases: readonly {
    readonly title: string;
    readonly made: ReturnType<typeof plan>;
    readonly changes: readonly string[];
    readonly states: Record<string, string>;
  }[] = [
    {
      title: 'installs what is declared and not there',
      made: plan([resolved('a', '1')], look()),
      changes: ['intentional install a'],
      states: { a: 'Pending Progressing' },
    },
    {
      title: 'has nothing to do when all is as declared',
      made: plan([resolved('a', '1')], look(installed('a', '1'))),
      changes: [],
      states: { a: 'Installed Succeeded' },
    },
    {
      title: 'adopts what is as declared and was installed for a workspace that is gone',
      made: plan([resolved('a', '1')], look(installed('a', '1')), {}, {}, [KEY]),
      changes: ['intentional adopt a'],
      states: { a: 'Installed Succeeded' },
    },
    {
      title: 'replaces another tree',
      made: plan([resolved('a', '2')], look(installed('a', '1'))),
      changes: ['intentional replace a'],
      states: { a: 'Pending Progressing' },
    },
    {
      title: 'restores an edited file',
      made: plan([resolved('a', '1')], look(installed('a', '1', { differing: ['SKILL.md'] }))),
      changes: ['corrective restore a'],
      states: { a: 'Drifted Drifted' },
    },
    {
      title: 'restores a file edited together with its list and receipt',
      made: plan([resolved('a', '1')], look(installed('a', 'edited')), {}, { a: resolved('a', '1').digest }),
      changes: ['corrective restore a'],
      states: { a: 'Drifted Drifted' },
    },
    {
      title: 'restores a tree whose receipt was garbled',
      made: plan(
        [resolved('a', '1')],
        look(installed('a', '1', { receipt: undefined, differing: ['SKILL.md'] })),
        {},
        {
          a: resolved('a', '1').digest,
        },
      ),
      changes: ['corrective restore a'],
      states: { a: 'Drifted Drifted' },
    },
    {
      title: 'restores a tree deleted by hand',
      made: plan([resolved('a', '1')], look(installed('a', '1', { present: false }))),
      changes: ['corrective restore a'],
      states: { a: 'Drifted Missing' },
    },
    {
      title: 'leaves a deleted tree away under Warn',
      made: plan([resolved('a', '1')], look(installed('a', '1', { present: false })), { drift: 'Warn' }),
      changes: [],
      states: { a: 'Drifted Missing' },
    },
    {
      title: 'leaves a deleted tree away under Off, and does not call it installed',
      made: plan([resolved('a', '1')], look(installed('a', '1', { present: false })), { drift: 'Off' }),
      changes: [],
      states: { a: 'Drifted Missing' },
    },
    {
      title: 'installs anew on a replaced machine even where drift is only warned of',
      made: plan([resolved('a', '1')], look(), { drift: 'Warn' }, { a: resolved('a', '1').digest }),
      changes: ['corrective install a'],
      states: { a: 'Pending Progressing' },
    },
    {
      title: 'leaves drift alone under Warn',
      made: plan([resolved('a', '1')], look(installed('a', '1', { differing: ['SKILL.md'] })), { drift: 'Warn' }),
      changes: [],
      states: { a: 'Drifted Drifted' },
    },
    {
      title: 'does not speak of drift under Off',
      made: plan([resolved('a', '1')], look(installed('a', '1', { differing: ['SKILL.md'] })), { drift: 'Off' }),
      changes: [],
      states: { a: 'Installed Succeeded' },
    },
    {
      title: 'removes what it installed and is no longer declared',
      made: plan([], look(installed('a', '1'), unmanaged('mine'))),
      changes: ['intentional remove a'],
      states: { a: 'Removing Progressing', mine: 'Unmanaged Unmanaged' },
    },
    {
      title: 'keeps everything under prune Off',
      made: plan([], look(installed('a', '1'), unmanaged('mine')), { prune: 'Off' }),
      changes: [],
      states: { a: 'Held PruneOff', mine: 'Unmanaged Unmanaged' },
    },
    {
      title: 'removes foreign directories only under prune All',
      made: plan([], look(installed('a', '1'), unmanaged('mine')), { prune: 'All' }),
      changes: ['intentional remove a', 'intentional remove mine'],
      states: { a: 'Removing Progressing', mine: 'Removing Progressing' },
    },
    {
      title: 'takes an equal foreign directory over without moving it',
      made: plan([resolved('a', '1')], look(unmanaged('a', true))),
      changes: ['intentional adopt a'],
      states: { a: 'Pending Progressing' },
    },
    {
      title: 'never touches a foreign directory with other content',
      made: plan([resolved('a', '1')], look(unmanaged('a', false))),
      changes: [],
      states: { a: 'Failed NameTaken' },
    },
  ];
  it.each(cases)('$title', ({ made, changes, states }) => {
    expect(made.changes).toEqual(changes);
    expect(made.states).toEqual(states);
  });

  it('lets the installed revision stand while the source cannot be asked', () => {
    const down: DesiredPlugin = {
      kind: 'unresolved',
      name: name('a'),
      source: 'local://a',
      origin: '',
      error: transient('SourceUnavailable', 'forge is down'),
    };
    const standing = plan([down, resolved('b', '1')], look(installed('a', '1')));
    expect(standing.changes).toEqual(['intentional install b']);
    expect(standing.states).toEqual({ a: 'Installed SourceUnavailable', b: 'Pending Progressing' });
    expect(plan([down], look()).verdicts[0]).toMatchObject({ state: 'Failed', error: { reason: 'SourceUnavailable' } });
    const wrong = { ...down, error: terminal('InvalidSource', 'no such scheme') };
    expect(plan([wrong], look(installed('a', '1'))).states).toEqual({ a: 'Failed InvalidSource' });
  });

  it('flags a runtime that the manifest does not list, and installs all the same', () => {
    const picky = { ...resolved('a', '1'), manifest: { runtimes: ['hermes'] } };
    expect(plan([picky], look(installed('a', '1'))).states).toEqual({ a: 'Installed UnsupportedRuntime' });
    const listed = { ...resolved('a', '1'), manifest: { runtimes: ['claude_code'] } };
    expect(plan([listed], look(installed('a', '1'))).states).toEqual({ a: 'Installed Succeeded' });
  });

  it('gives another id where memory makes another plan of the same look', () => {
    const { digest } = resolved('a', '1');
    const drifted = look(installed('a', 'edited'));
    const known = plan([resolved('a', '1')], drifted, { drift: 'Warn' }, { a: digest });
    const unknown = plan([resolved('a', '1')], drifted, { drift: 'Warn' });
    expect(known.entries).toEqual([]);
    expect(unknown.changes).toEqual(['intentional replace a']);
    expect(known.id).not.toBe(unknown.id);
  });

  it('calls trees what people call them: revision and version, of both sides', () => {
    const old = installed('a', '1', { manifest: { version: 'v1' } });
    const { entries } = plan([{ ...resolved('a', '2'), manifest: { version: 'v2' } }], look(old));
    expect(entries).toMatchObject([
      { labels: { from: { revision: 'r-1', version: 'v1' }, to: { revision: 'r-2', version: 'v2' } } },
    ]);
  });

  it('gives the same id for the same inputs and another one for others', () => {
    const once = plan([resolved('a', '1')], look());
    expect(plan([resolved('a', '1')], look()).id).toBe(once.id);
    expect(plan([resolved('a', '2')], look()).id).not.toBe(once.id);
    expect(plan([resolved('a', '1')], look(installed('b', '1'))).id).not.toBe(once.id);
    expect(plan([resolved('a', '1')], look(), { prune: 'All' }).id).not.toBe(once.id);
  });
});

describe('laws of planning', () => {
  const plugins = fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e'));
  const sets = fc.record({
    desired: plugins.chain((names) =>
      fc.tuple(...names.map((one) => fc.constantFrom('1', '2').map((content) => resolved(one, content)))),
    ),
    present: plugins.chain((names) =>
      fc.tuple(
        ...names.map((one) =>
          fc.oneof(
            fc.constantFrom('1', '2', '3').map((content) => installed(one, content)),
            fc.constant(installed(one, '1', { differing: ['SKILL.md'] })),
            fc.constant(installed(one, '1', { present: false })),
            fc.constant(unmanaged(one, true)),
            fc.constant(unmanaged(one, false)),
          ),
        ),
      ),
    ),
  });

  /** What a target shows after exactly these changes. */
  function applied(
    observation: Observation,
    entries: ReturnType<typeof plan>['entries'],
    desired: readonly ResolvedPlugin[],
  ): Observation {
    const after = new Map(observation.plugins.map((plugin) => [plugin.name, plugin]));
    for (const entry of entries) {
      const wanted = desired.find((plugin) => plugin.name === entry.plugin);
      if (entry.action === 'remove' || wanted === undefined) after.delete(entry.plugin);
      else after.set(entry.plugin, installed(entry.plugin, wanted.revision.slice(2)));
    }
    return { ...observation, plugins: [...after.values()] };
  }

  it('equal ids mean equal changes, whatever they are called', () => {
    const worlds = fc.record({
      sets,
      policy: fc.record({
        drift: fc.constantFrom('Off', 'Warn', 'Enforce'),
        prune: fc.constantFrom('Off', 'Managed', 'All'),
      }),
      converged: fc.dictionary(
        fc.constantFrom('a', 'b'),
        fc.constantFrom('1', '2').map((content) => resolved('x', content).digest),
      ),
      label: fc.constantFrom('r1', 'r2'),
    });
    const byId = new Map<Digest, unknown>();
    let repeated = 0;
    fc.assert(
      fc.property(worlds, ({ sets: { desired, present }, policy, converged, label }) => {
        const named = desired.map((plugin) => ({ ...plugin, revision: label, origin: label }));
        const { id, entries } = plan(named, look(...present), policy, converged);
        const changes = entries.map((entry) => ({ ...entry, labels: {}, origin: '' }));
        if (byId.has(id)) repeated += 1;
        else byId.set(id, changes);
        expect(byId.get(id)).toEqual(changes);
      }),
      { numRuns: 3000 },
    );
    expect(repeated).toBeGreaterThan(0);
  });

  it('a carried out plan leaves nothing to do, and never touches what is not ours', () => {
    fc.assert(
      fc.property(sets, ({ desired, present }) => {
        const before = look(...present);
        const { entries } = plan(desired, before);
        const after = applied(before, entries, desired);
        expect(plan(desired, after).changes).toEqual([]);
        const foreign = present.filter((plugin) => plugin.receipt === undefined);
        for (const plugin of foreign) {
          expect(entries.filter((entry) => entry.plugin === plugin.name && entry.action !== 'adopt')).toEqual([]);
        }
      }),
    );
  });
});
