import { describe, expect, it } from 'vitest';

import type { App, LookResult } from '../../../src/app.ts';
import { terminal, waiting, type ReconcileError } from '../../../src/domain/errors.ts';
import type { FileChanges } from '../../../src/domain/file-changes.ts';
import { workspaceKey, type PluginName, type WorkspaceKey } from '../../../src/domain/name.ts';
import type { PlanEntry, Verdict } from '../../../src/domain/plan.ts';
import type { Hold } from '../../../src/domain/status.ts';
import type { Preview } from '../../../src/reconcile/dry-looks.ts';
import type { CliRun } from '../../support/run-cli.ts';
import { workspaceAt } from '../../support/workspaces.ts';
import { CliBench, DIGEST_A, DIGEST_B, manifest } from './fixtures.ts';

type Entry = Partial<PlanEntry> & { action: PlanEntry['action']; name: string; files?: FileChanges };
type Noted = Partial<Omit<Verdict, 'name'>> & { name: string };

/** Plans as the test says, for a store in memory. */
class PlanBench extends CliBench {
  readonly #previews = new Map<string, () => Preview>();

  plans(name: string, entries: readonly Entry[], noted: readonly Noted[] = [], journalPending = false): void {
    const key = this.declare(manifest(name));
    this.#previews.set(key, () => previewOf(key, entries, noted, journalPending));
  }

  /** It was somewhere else before. */
  left(name: string, former: Preview['former']): void {
    const key = this.declare(manifest(name));
    this.#previews.set(key, () => ({ ...previewOf(key, [], [], false), former }));
  }

  /** What follows the change for its runtime. */
  restarts(name: string, restart: Preview['restart']): void {
    const key = this.declare(manifest(name));
    const planned = this.#previews.get(key);
    if (planned === undefined) throw new Error(`nothing is planned for ${name}`);
    this.#previews.set(key, () => ({ ...planned(), restart }));
  }

  /** What was planned for it waits. */
  holds(name: string, hold: Hold): void {
    const key = this.declare(manifest(name));
    const planned = this.#previews.get(key);
    if (planned === undefined) throw new Error(`nothing is planned for ${name}`);
    this.#previews.set(key, () => ({ ...planned(), planned: { ...planned().planned, hold } }));
  }

  fails(name: string, error: ReconcileError): void {
    this.#previews.set(this.declare(manifest(name)), () => {
      throw error;
    });
  }

  plan(...args: readonly string[]): Promise<CliRun> {
    const app = {
      store: this.store,
      preview: this.looks(
        async (key, signal): Promise<LookResult<Preview>> =>
          this.#previews.get(key)?.() ?? (await this.unseen(key, signal)),
      ),
      close: async () => undefined,
    } as unknown as App;
    return this.run(['plan', ...args], { openApp: async () => app });
  }
}

function previewOf(
  key: WorkspaceKey,
  entries: readonly Entry[],
  noted: readonly Noted[],
  journalPending: boolean,
): Preview {
  const planned = {
    plan: {
      id: DIGEST_A,
      entries: entries.map((given) => {
        const { name, files: _, ...entry } = given;
        return {
          plugin: name as PluginName,
          cause: 'intentional' as const,
          origin: 'alice.yaml:9',
          differing: [],
          labels: {},
          ...entry,
        };
      }),
    },
    verdicts: noted.map(({ name, ...verdict }) => ({
      name: name as PluginName,
      state: 'Installed' as const,
      reason: 'Succeeded' as const,
      message: 'as declared',
      managed: true,
      ...verdict,
    })),
  };
  const observation = { owner: { uid: 0, gid: 0 }, plugins: [], odd: [], journalPending };
  return {
    kind: 'planned',
    workspace: workspaceAt({ external: {} }),
    target: `container ws-${key.slice(8)}`,
    planned: { ...planned, allowed: planned.plan, hold: undefined },
    observation,
    former: [],
    residue: undefined,
    restart: undefined,
    files: new Map(entries.flatMap(({ name, files }) => (files === undefined ? [] : [[name as PluginName, files]]))),
  };
}

describe('plan', () => {
  it('prints a line for each change with what it replaces and who asked for it, and ends with 2', async () => {
    const bench = new PlanBench();
    bench.plans('alice', [
      { action: 'remove', name: 'old', from: DIGEST_B, origin: 'no longer declared' },
      { action: 'install', name: 'superpowers', to: DIGEST_A },
      { action: 'replace', name: 'notes', from: DIGEST_A, to: DIGEST_B },
      { action: 'restore', name: 'edited', to: DIGEST_A, differing: ['a', 'b', 'c', 'd', 'e'], cause: 'corrective' },
      { action: 'adopt', name: 'mine', to: DIGEST_B },
    ]);
    const { code, stdout, stderr } = await bench.plan();
    expect(stdout.replaceAll(/(?<=\S) {2,}/g, ' | ')).toBe(`\
default/alice (container ws-alice) | plan sha256:aaaaaaaaaaaa
  - remove | old | sha256:bbbbbbbbbbbb | no longer declared
  + install | superpowers | sha256:aaaaaaaaaaaa | alice.yaml:9
  ~ replace | notes | sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb | alice.yaml:9
  ^ restore | edited | sha256:aaaaaaaaaaaa: a, b, c and 2 more | alice.yaml:9
  = adopt | mine | sha256:bbbbbbbbbbbb | alice.yaml:9
Plan: 1 to install, 1 to replace, 1 to restore, 1 to adopt, 1 to remove, in 1 of 1 workspace
`);
    expect({ code, stderr }).toEqual({ code: 2, stderr: '' });
  });

  it('says what would wait, and for whom', async () => {
    const bench = new PlanBench();
    bench.plans('alice', [{ action: 'install', name: 'superpowers', to: DIGEST_A }]);
    const message = 'plan sha256:1 waits for plugset approve alice sha256:1';
    bench.holds('alice', { reason: 'AwaitingApproval', message, changes: ['install superpowers'] });
    const { code, stdout } = await bench.plan();
    expect(code).toBe(2);
    expect(stdout).toContain(
      '\n  waits (AwaitingApproval): 1 change; plan sha256:1 waits for plugset approve alice sha256:1\nPlan: 1 to install',
    );
  });

  it('shows no id under Observe, where nothing is approved', async () => {
    const bench = new PlanBench();
    bench.plans('alice', [{ action: 'install', name: 'superpowers', to: DIGEST_A }]);
    bench.holds('alice', {
      reason: 'ObserveOnly',
      message: 'policy.mode is Observe',
      changes: ['install superpowers'],
    });
    const { stdout } = await bench.plan();
    expect(stdout).toMatch(/^default\/alice \(container ws-alice\)\n/);
    expect(stdout).toContain('policy.mode is Observe, under which nothing is approved: set it to Plan, and plan again');
  });

  it('says where the files go of what plugset did not install', async () => {
    const bench = new PlanBench();
    const labels = { from: { isForeign: true as const }, to: { version: '1.0.0' } };
    bench.plans('alice', [{ action: 'replace', name: 'lint', to: DIGEST_B, labels }]);
    expect((await bench.plan()).stdout).toContain(
      "lint  (not plugset's) → 1.0.0 (sha256:bbbbbbbbbbbb); its files go to .plugset/kept/",
    );
  });

  it.each([
    [{ follows: true }, 'then restarts container ws-alice, once nothing changes for a moment'],
    [
      { follows: false, reason: 'RestartNever', message: 'whoever' },
      'no restart follows: the runtime takes changes up when somebody restarts it (policy.restart: Never)',
    ],
    [
      { follows: false, reason: 'NotDurable', message: 'it would lose all' },
      'no restart follows: NotDurable: it would lose all',
    ],
  ] as const)('says whether a running container is restarted: %o', async (restart, line) => {
    const bench = new PlanBench();
    bench.plans('alice', [{ action: 'install', name: 'superpowers', to: DIGEST_A }]);
    bench.restarts('alice', restart);
    expect((await bench.plan()).stdout).toContain(`alice.yaml:9\n  ${line}\nPlan: `);
    const { items } = JSON.parse((await bench.plan('-o', 'json')).stdout) as { items: readonly unknown[] };
    expect(items).toMatchObject([{ restart }]);
  });

  it('calls trees by version and revision where they have one', async () => {
    const bench = new PlanBench();
    const labels = {
      from: { version: 'v1.0.0', revision: '0123456789abcdef0123456789abcdef01234567' },
      to: { version: 'v1.1.0', revision: '89abcdef0123456789abcdef0123456789abcdef' },
    };
    bench.plans('alice', [{ action: 'replace', name: 'notes', from: DIGEST_A, to: DIGEST_B, labels }]);
    expect((await bench.plan()).stdout).toContain('notes  v1.0.0 (0123456789ab) → v1.1.0 (89abcdef0123)  alice.yaml:9');
  });

  it('names the files that a replacement adds, changes and removes, and of many the first', async () => {
    const bench = new PlanBench();
    const many = { added: Array.from({ length: 9 }, (_, n) => `docs/${n}.md`), changed: ['SKILL.md'], removed: [] };
    bench.plans('alice', [
      {
        action: 'replace',
        name: 'notes',
        from: DIGEST_A,
        to: DIGEST_B,
        files: { added: ['a.md'], changed: ['SKILL.md', 'run.sh'], removed: ['old\u001b.md'] },
      },
      { action: 'replace', name: 'maps', from: DIGEST_A, to: DIGEST_B, files: many },
      { action: 'replace', name: 'unknown', from: DIGEST_A, to: DIGEST_B },
    ]);
    const lines = (await bench.plan()).stdout.split('\n');
    expect(lines[2]?.trim()).toBe('files: 1 added, 2 changed, 1 removed: + a.md, ~ SKILL.md, ~ run.sh, - old?.md');
    expect(lines[2]?.indexOf('files:'), 'under what it is about').toBe(lines[1]?.indexOf('sha256:'));
    expect(lines[4]).toMatch(/ 9 added, 1 changed: \+ docs\/0\.md, .*, \+ docs\/7\.md and 2 more$/);
    expect(lines[5]).toMatch(/~ replace +unknown/);
    expect(lines[6]).toMatch(/^Plan: 3 to replace/);
    const { items } = JSON.parse((await bench.plan('-o', 'json')).stdout) as {
      items: readonly { changes: readonly { files?: FileChanges }[] }[];
    };
    expect(items[0]?.changes[1]?.files).toEqual(many);
    expect(items[0]?.changes[2]).not.toHaveProperty('files');
  });

  it('ends with 0 when nothing would change, workspaces that are never worked on included', async () => {
    const bench = new PlanBench();
    bench.plans('alice', [], [{ name: 'superpowers' }, { name: 'foreign', state: 'Unmanaged', reason: 'Unmanaged' }]);
    bench.declare(manifest('bob', { suspend: true }));
    bench.declare(manifest('carol', { target: { external: {} } }));
    bench.backend.remove(bench.declare(manifest('dave', { policy: { deletion: 'Orphan' } })));
    expect(await bench.plan()).toEqual({
      code: 0,
      stderr: '',
      stdout: `\
default/alice (container ws-alice): nothing to do
default/bob: spec.suspend is true; nothing is looked at or changed
default/carol: an external workspace fetches for itself; plugset never looks at it
default/dave: it is deleted, and what is installed on its target stays there: policy.deletion is Orphan
Plan: nothing to change in 4 workspaces
`,
    });
  });

  it('shows what policy holds back, which is no change', async () => {
    const bench = new PlanBench();
    bench.plans(
      'alice',
      [],
      [
        { name: 'old', state: 'Held', reason: 'PruneOff', message: 'kept' },
        { name: 'edited', state: 'Drifted', reason: 'Drifted', message: 'left' },
      ],
    );
    const { code, stdout } = await bench.plan();
    expect(code).toBe(0);
    expect(stdout).toMatch(/ {2}! held {2}old {5}PruneOff: kept\n {2}! held {2}edited {2}Drifted: left\n/);
  });

  it('ends with 1 when something cannot be worked out, and goes on with the others', async () => {
    const bench = new PlanBench();
    bench.fails('alice', waiting('WorkspaceNotFound', 'no container ws-alice', 1000));
    const error = terminal('PluginNotFound', 'no such ref');
    bench.plans(
      'bob',
      [{ action: 'install', name: 'ok', to: DIGEST_A }],
      [{ name: 'gone', state: 'Failed', reason: 'PluginNotFound', message: error.message, error }],
    );
    bench.backend.malform(bench.declare(manifest('carol')), 'carol.yaml:3:1: spec: is required');
    const { code, stdout } = await bench.plan();
    expect(code).toBe(1);
    expect(stdout).toContain('default/alice: cannot be planned: no container ws-alice (WorkspaceNotFound)\n');
    expect(stdout).toMatch(/ {2}! failed +gone +PluginNotFound: no such ref\n/);
    expect(stdout).toContain('default/carol: cannot be planned: carol.yaml:3:1: spec: is required (InvalidSpec)\n');
    expect(stdout).toContain(`\
What to do
  WorkspaceNotFound: Start the workspace, or correct spec.target if it points elsewhere.
  PluginNotFound: Correct repository, ref or path of the source, or give plugset a credential that may see it.
  InvalidSpec: Correct the declaration where the message points; \`plugset validate FILE\` checks a file.
`);
    expect(stdout).toContain(
      'Plan: 1 to install, in 1 of 3 workspaces; 2 workspaces cannot be planned; 1 plugin cannot be had\n',
    );
  });

  it('counts an interrupted change that has to be finished', async () => {
    const bench = new PlanBench();
    bench.plans('alice', [], [], true);
    const { code, stdout } = await bench.plan();
    expect(code).toBe(2);
    expect(stdout).toMatch(
      /a change that was interrupted is finished first\nPlan: an interrupted change to finish, in 1 of 1/,
    );
  });

  it('gives the plans as data, each with its id', async () => {
    const bench = new PlanBench();
    bench.plans(
      'alice',
      [{ action: 'install', name: 'superpowers', to: DIGEST_A }],
      [{ name: 'superpowers', state: 'Pending' }],
    );
    bench.fails('bob', terminal('TargetUnproven', 'no label'));
    const { code, stdout } = await bench.plan('-o', 'json');
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toEqual({
      apiVersion: 'v1',
      kind: 'List',
      items: [
        {
          kind: 'Plan',
          workspace: { namespace: 'default', name: 'alice' },
          target: 'container ws-alice',
          id: DIGEST_A,
          changes: [
            {
              plugin: 'superpowers',
              cause: 'intentional',
              origin: 'alice.yaml:9',
              differing: [],
              labels: {},
              action: 'install',
              to: DIGEST_A,
            },
          ],
          plugins: [
            { name: 'superpowers', state: 'Pending', managed: true, reason: 'Succeeded', message: 'as declared' },
          ],
          finishInterrupted: false,
        },
        {
          kind: 'Plan',
          workspace: { namespace: 'default', name: 'bob' },
          error: { class: 'terminal', reason: 'TargetUnproven', message: 'no label' },
        },
      ],
    });
  });

  it('shows what would go where the workspace was before', async () => {
    const bench = new PlanBench();
    const { planned } = previewOf(
      workspaceKey('default', 'alice'),
      [{ action: 'remove', name: 'old', from: DIGEST_B }],
      [],
      false,
    );
    bench.left('alice', [
      { kind: 'planned', place: 'directory /srv/old', planned },
      { kind: 'left', place: 'container gone', reason: 'Unreachable', message: 'no answer' },
    ]);
    const { code, stdout } = await bench.plan();
    expect(stdout.replaceAll(/(?<=\S) {2,}/g, ' | ')).toBe(`\
default/alice (container ws-alice) | plan sha256:aaaaaaaaaaaa
  - remove | old | sha256:bbbbbbbbbbbb | in directory /srv/old, where it was before
  ! left | container gone | Unreachable: no answer
Plan: 1 to remove, in 1 of 1 workspace
`);
    expect(code).toBe(2);
  });

  it('plans the named ones, and fails for one that is not declared', async () => {
    const bench = new PlanBench();
    bench.plans('alice', []);
    bench.plans('bob', [{ action: 'install', name: 'x', to: DIGEST_A }]);
    expect(await bench.plan('alice')).toMatchObject({ code: 0 });
    expect(await bench.plan('alice', 'nobody')).toMatchObject({
      code: 1,
      stderr: 'error: workspace default/nobody is not declared; `plugset status` lists what is declared\n',
    });
  });

  it('prints the stack of a fault that nobody classified', async () => {
    const bench = new PlanBench();
    bench.fails('alice', new TypeError('x is not a function') as unknown as ReconcileError);
    const { code, stderr } = await bench.plan();
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^error: plugset hit an unexpected fault; please report it with these lines\nTypeError: x is not a function\n +at /,
    );
  });
});
