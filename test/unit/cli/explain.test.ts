import { describe, expect, it } from 'vitest';

import type { WorkspaceKey } from '../../../src/domain/name.ts';
import { REQUESTED_AT_ANNOTATION, type WorkspaceManifest } from '../../../src/domain/workspace.ts';
import type { WorkspaceStatus } from '../../../src/domain/status.ts';
import { CliBench, manifest, pluginStatus, READY, START, statusWith } from './fixtures.ts';

const KEY = 'default/alice' as WorkspaceKey;

async function explain(
  status: WorkspaceStatus | undefined,
  spec: Partial<WorkspaceManifest['spec']> = {},
  prepare: (bench: CliBench) => void = () => undefined,
): Promise<string> {
  const bench = new CliBench();
  bench.declare(manifest('alice', spec), status);
  prepare(bench);
  bench.clock.tick(60_000);
  const { code, stdout, stderr } = await bench.run(['explain', 'alice']);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return stdout;
}

describe('explain', () => {
  it('tells the whole story of a workspace with one bad plugin', async () => {
    const status = statusWith(
      [
        ['Ready', 'False', 'SourceUnavailable', 'github.com does not answer'],
        ['Reconciling', 'True', 'ProgressingWithRetry', 'github.com does not answer'],
        ['Reachable', 'True', 'Succeeded', 'looked at'],
      ],
      {
        summary: '1/2',
        plugins: [
          pluginStatus('superpowers'),
          pluginStatus('notes', {
            state: 'Failed',
            reason: 'SourceUnavailable',
            message: 'github.com does not answer',
          }),
          pluginStatus('foreign', { state: 'Unmanaged', managed: false, reason: 'Unmanaged' }),
        ],
        history: [
          {
            planId: 'sha256:1',
            outcome: 'Succeeded',
            summary: 'installed superpowers v4.0.0 (0123456789ab)',
            firstAt: START,
            lastAt: START,
            times: 2,
          },
        ],
      },
    );
    const source = 'github://obra/superpowers#v4';
    const text = await explain(status, {
      plugins: [
        { name: 'superpowers', source },
        { name: 'notes', source },
      ],
    });
    expect(text).toBe(`\
Workspace default/alice

Controller
  host-7 leads for 60s

Declared
  runtime     claude-code
  target      container ws-alice on engine default
  plugins     2 plugins, 1/2 in place
  policy      mode Apply, drift Enforce, prune Managed, adopt Equal, allowEmpty false, restart IfNeeded, deletion Remove
  generation  1

Conditions
  Ready is False for 60s: SourceUnavailable
    github.com does not answer
    The source could not be reached; the revision already on the target stands until it can.
  Reconciling is True for 60s: ProgressingWithRetry
    The last attempt failed in a way that may pass; it is retried with backoff (1 s to 5 min).
  Reachable is True for 60s: Succeeded

Plugins that are not as they should be
  notes is Failed for 60s: SourceUnavailable
    github.com does not answer
    The source could not be reached; the revision already on the target stands until it can.
    from github://obra/superpowers#v4 (declared in memory (default/alice, notes)); on the target is 0123456789ab

What was done last
  60s ago: installed superpowers v4.0.0 (0123456789ab), 2 times

What happens next
  It is tried again by itself, after 1 s at first and 5 min at most, and at once after an edit.

What you can do
  notes: Check that the forge runs and can be reached from here; what is installed stands until it is.
  \`plugset reconcile default/alice --wait\` tries again at once.
`);
  });

  it.each<[string, WorkspaceStatus | undefined, Partial<WorkspaceManifest['spec']>, RegExp]>([
    [
      'nobody has looked',
      undefined,
      {},
      /next\n {2}The controller makes the first pass.*\n\n.*\n {2}If this does not change within a minute, read the log/,
    ],
    [
      'all is well',
      READY,
      {},
      /undone by the look that finds them \(policy.drift: Enforce\)\.\n\nWhat you can do\n {2}Nothing has to be done\./,
    ],
    ['drift is not undone in Observe', READY, { policy: { mode: 'Observe' } }, /left \(policy.mode: Observe\)/],
    ['drift is undone on approval', READY, { policy: { mode: 'Plan' } }, /once that is approved \(policy.mode: Plan\)/],
    [
      'a restart follows by itself',
      statusWith([
        ['Ready', 'True', 'Succeeded'],
        ['ActivationPending', 'True', 'RestartPending', 'one restart follows'],
      ]),
      {},
      /next\n {2}RestartPending: one restart follows\.\n[^]*What you can do\n {2}Nothing has to be done\./,
    ],
    [
      'nobody restarts it but a person',
      statusWith([
        ['Ready', 'True', 'Succeeded'],
        ['ActivationPending', 'True', 'NotDurable', 'it runs with --rm'],
      ]),
      {},
      /next\n {2}NotDurable: it runs with --rm\.\n[^]*What you can do\n {2}Put the config directory on a volume/,
    ],
    [
      'a plan waits beside a plugin that needs a person',
      statusWith(
        [
          ['Ready', 'False', 'NameTaken'],
          ['Stalled', 'True', 'NameTaken'],
        ],
        {
          held: { reason: 'AwaitingApproval', message: 'plan p waits for plugset approve', changes: ['adopt a v1'] },
          plugins: [
            pluginStatus('lint', { state: 'Failed', reason: 'NameTaken', stalled: true }),
            pluginStatus('a', { state: 'Pending', reason: 'AwaitingApproval' }),
          ],
        },
      ),
      { policy: { mode: 'Plan' } },
      /this waits: adopt a v1: plan p waits for plugset approve\n\nWhat you can do\n {2}lint: [^]*agree with the/,
    ],
    ['drift is only reported', READY, { policy: { drift: 'Warn' } }, /reported and left \(policy.drift: Warn\)/],
    [
      'policy keeps a plugin',
      { ...READY, plugins: [pluginStatus('old', { state: 'Held', reason: 'PruneOff' })] },
      { policy: { prune: 'Off' } },
      /What you can do\n {2}old: Set policy.prune to Managed to have it removed/,
    ],
    ['suspended', statusWith([['Ready', 'Unknown', 'Suspended']]), { suspend: true }, /Set spec.suspend to false/],
    [
      'external',
      statusWith([['Ready', 'Unknown', 'Pull']]),
      { target: { external: {} } },
      /fetches for itself; plugset never looks at it\.\n\nWhat you can do\n {2}Nothing/,
    ],
    [
      'a person is needed',
      statusWith([
        ['Ready', 'False', 'TargetUnproven'],
        ['Stalled', 'True', 'TargetUnproven'],
      ]),
      {},
      /Trying again would not help.*\n\nWhat you can do\n {2}Set the label plugset.dev\/workspace=/,
    ],
    [
      'a plan waits for approval',
      statusWith([['Ready', 'False', 'AwaitingApproval']], {
        held: { reason: 'AwaitingApproval', message: 'plan p waits', changes: ['install a v1 (0123456789ab)'] },
        plugins: [pluginStatus('a', { state: 'Pending', reason: 'AwaitingApproval' })],
      }),
      { policy: { mode: 'Plan' } },
      /this waits: install a v1 \(0123456789ab\)\.\n\nWhat you can do\n {2}Look at it with `plugset plan`, then agree/,
    ],
    [
      'a plan waits for approval that ends in a restart',
      statusWith([['Ready', 'False', 'AwaitingApproval']], {
        held: {
          reason: 'AwaitingApproval',
          message: 'plan p waits',
          changes: ['install a v1'],
          restart: { follows: true },
        },
        target: 'container ws-alice',
      }),
      { policy: { mode: 'Plan' } },
      /this waits: install a v1\.\n {2}Once that is carried out, container ws-alice is restarted\.\n/,
    ],
    [
      'it waits for an event',
      statusWith([
        ['Ready', 'False', 'WorkspaceNotRunning'],
        ['Reconciling', 'True', 'Progressing'],
      ]),
      {},
      /It waits for that to change and then goes on by itself; .*\n\n.*\n {2}Start the workspace\.\n$/,
    ],
  ])('%s', async (_, status, spec, expected) => {
    expect(await explain(status, spec)).toMatch(expected);
  });

  it('names the plugin that needs a person first, and says that the rest goes on being tried', async () => {
    const status = statusWith(
      [
        [
          'Ready',
          'False',
          'DigestMismatch',
          'needs a person: plugin notes: other content; tried again meanwhile: maps',
        ],
        ['Stalled', 'True', 'DigestMismatch'],
      ],
      {
        plugins: [
          pluginStatus('maps', { state: 'Failed', reason: 'SourceUnavailable', message: 'no answer' }),
          pluginStatus('notes', { state: 'Failed', reason: 'DigestMismatch', message: 'other', stalled: true }),
        ],
      },
    );
    const text = await explain(status);
    expect(text).toMatch(/notes is Failed for 60s: DigestMismatch; it needs a person\n[^]*maps is Failed for 60s/);
    expect(text).toContain(`\
What happens next
  notes: nothing, until a person has acted; trying again would not help.
  maps: tried again by itself, after 1 s at first and 5 min at most, and at once after an edit.
  Everything else of it is looked at and kept as declared.

What you can do
  notes: Review the content at the source, then change the pin in the declaration.
  maps: Check that the forge runs and can be reached from here; what is installed stands until it is.
`);
  });

  it('says that nobody looks, since when, and what to do about it', async () => {
    const ended = { name: 'host-7', isLeading: false, since: START, until: '2026-01-01T00:00:30.000Z' };
    const text = await explain(READY, {}, (bench) => void (bench.holder = ended));
    expect(text).toContain(
      'Controller\n  no controller is running: what is shown is as of 30s ago, when host-7 ended\n',
    );
    expect(text).toContain(
      'What happens next\n  Nothing, while no controller is running. Once one is:\n  It is looked at',
    );
    expect(text).toMatch(/can do\n {2}Start `plugset run` on this store, or make a single pass with `plugset once def/);
    expect(await explain(undefined, {}, (bench) => void (bench.holder = undefined))).toContain(
      'no controller has ever run on this store: no target was looked at',
    );
  });

  it('shows what was installed when it was last looked at, marked as of when', async () => {
    const blind = pluginStatus('superpowers', { state: 'Unknown', reason: 'Suspended', seenAt: START });
    const status = statusWith([['Ready', 'Unknown', 'Suspended']], { plugins: [blind] });
    expect(await explain(status, { suspend: true })).toContain('#v4 at 0123456789ab (60s ago) (declared in');
  });

  it('gives each plugin its own message, be it the same', async () => {
    const message = 'an equal directory is there';
    const plugins = ['one', 'two'].map((name) =>
      pluginStatus(name, { state: 'Pending', reason: 'Progressing', message }),
    );
    const text = await explain(statusWith([['Ready', 'False', 'Progressing']], { plugins }));
    expect(text.split(`    ${message}\n`)).toHaveLength(3);
  });

  it('says of what is not declared that its plugins may have been left', async () => {
    const { code, stderr } = await new CliBench().run(['explain', 'alice']);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^error: workspace default\/alice is not declared; .*\n {2}If it was declared before, .* left on its target\.\n$/,
    );
  });

  describe('the next pass', () => {
    const asked = async (
      answer: object | undefined,
      status = READY,
      spec: Partial<WorkspaceManifest['spec']> = {},
    ): Promise<string> => {
      const bench = new CliBench();
      bench.declare(manifest('alice', spec), status);
      const paths: string[] = [];
      const { stdout } = await bench.run(['explain', 'alice'], {
        askDaemon: async (listen, path) => {
          paths.push(`${listen.host}:${listen.port}${path}`);
          return answer === undefined ? undefined : { status: 200, body: JSON.stringify(answer) };
        },
      });
      expect(paths).toEqual(['127.0.0.1:9464/wakeup?workspace=default%2Falice']);
      return /What happens next\n([^]*?)\n\n/.exec(stdout)?.[1] ?? '';
    };
    const delayed = (inMs: number, cause: string, rest: object = {}): object => ({
      authority: 'the-authority',
      queue: { state: 'delayed', inMs, cause },
      failures: 0,
      ...rest,
    });

    it('is told with its cause, as the controller has it in mind', async () => {
      expect(await asked(delayed(24_400, 'look', { deepInMs: 363_000 }))).toMatch(
        /^ {2}Its next pass is in about 24s: the regular look\.\n {2}Every file is looked at in about 6m3s\.\n {2}It is looked at every 30s, and every file of it every 10m\.\n/,
      );
      const failed = statusWith([
        ['Ready', 'Unknown', 'Unreachable'],
        ['Reconciling', 'True', 'ProgressingWithRetry'],
      ]);
      expect(await asked(delayed(40_000, 'retry', { failures: 3 }), failed)).toMatch(
        /^ {2}Its next pass is in about 40s: it is tried again after 3 failures in a row\.\n {2}It looks at every file\.\n/,
      );
      const working = { authority: 'the-authority', queue: { state: 'working' }, failures: 0 };
      expect(await asked(working)).toMatch(/^ {2}A pass over it is under way right now\.\n/);
    });

    it('is one and the same for all looks at a host, where none is cheaper', async () => {
      const bench = new CliBench();
      bench.declare(manifest('alice', { target: { ssh: { host: 'a.example.com', user: 'agent' } } }), READY);
      const { stdout } = await bench.run(['explain', 'alice']);
      expect(stdout).toMatch(/^ {2}Every file of it is looked at every 30s\b/m);
      expect(stdout).not.toContain('10m');
    });

    it('is the only time that is told of what stalled', async () => {
      const foreign = statusWith([
        ['Ready', 'False', 'ForeignOwner'],
        ['Stalled', 'True', 'ForeignOwner'],
      ]);
      expect(await asked(delayed(1_500_000, 'reprobe'), foreign)).toMatch(
        /^ {2}Its next pass is in about 25m: in case somebody[^]* it is looked at only now and then, and at once after an edit\.$/,
      );
      expect(await asked(undefined, foreign)).toMatch(
        /looked at only about every 30 min, and at once after an edit\.$/,
      );
      const badPlugin = statusWith(
        [
          ['Ready', 'False', 'PluginNotFound'],
          ['Stalled', 'True', 'PluginNotFound'],
        ],
        { plugins: [pluginStatus('notes', { state: 'Failed', reason: 'PluginNotFound', stalled: true })] },
      );
      const text = await asked(delayed(22_000, 'look'), badPlugin);
      expect(text).toMatch(/^ {2}Its next pass is in about 22s: [^]* {2}notes: nothing, until a person has acted/);
      expect(text).not.toContain('30 min');
    });

    it('is not told where nobody knows: no answer, another controller, something else', async () => {
      const unknown = /^ {2}It is looked at every 30s, and every file of it every 10m, if the controller has the same/;
      expect(await asked(undefined)).toMatch(unknown);
      expect(await asked(delayed(1000, 'look', { authority: 'another' }))).toMatch(
        /same settings; there the controller of another store answers, another \(asked at 127\.0\.0\.1:9464/,
      );
      expect(await asked({ hello: 'world' })).toMatch(unknown);
    });

    it('is of no interest where a pass does nothing', async () => {
      const status = statusWith([['Ready', 'Unknown', 'Suspended']]);
      expect(await asked(delayed(1000, 'resync'), status, { suspend: true })).toMatch(/^ {2}Nothing: spec\.suspend/);
    });
  });

  it('gives the same as data', async () => {
    const bench = new CliBench();
    const stalled = pluginStatus('notes', { state: 'Failed', reason: 'PluginNotFound', stalled: true });
    bench.declare(
      manifest('alice'),
      statusWith(
        [
          ['Ready', 'False', 'PluginNotFound', 'no such ref'],
          ['Stalled', 'True', 'PluginNotFound'],
        ],
        { plugins: [pluginStatus('superpowers'), stalled] },
      ),
    );
    const { code, stdout } = await bench.run(['explain', 'alice', '-o', 'json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      kind: 'Explanation',
      workspace: { namespace: 'default', name: 'alice' },
      ready: 'False',
      reason: 'PluginNotFound',
      message: 'no such ref',
      since: START,
      controller: { name: 'host-7', isLeading: true },
      plugins: [{ name: 'notes', stalled: true, advice: expect.stringMatching(/^Correct repository/) }],
      next: [
        'notes: nothing, until a person has acted; trying again would not help.',
        'Everything else of it is looked at and kept as declared.',
      ],
      advice: [expect.stringMatching(/^notes: Correct repository/), expect.stringContaining('plugset reconcile')],
    });
  });

  it('tells of a declaration that no pass has taken up', async () => {
    const text = await explain(READY, {}, (bench) => bench.backend.declare(manifest('alice', { runtime: 'hermes' })));
    expect(text).toContain('generation  2; the last one that was carried to its end is 1\n');
    expect(text).toContain('takes generation 2 up within moments; what is shown here is about an older one.');
  });

  it('tells of a deletion, and of one that does not get on', async () => {
    const remove = (bench: CliBench): void => void bench.backend.remove(KEY);
    const text = await explain(READY, {}, remove);
    expect(text).toMatch(/^Workspace default\/alice \(Deleting\)\n/);
    expect(text).toContain('takes away what plugset installed on the target, then forgets');
    expect(await explain(READY, { policy: { deletion: 'Orphan' } }, remove)).toContain('leaves the target as it is');
    const stuck = await explain(statusWith([['Ready', 'Unknown', 'Unreachable']]), {}, remove);
    expect(stuck).toContain('That did not work yet: Unreachable. It is tried again.');
  });

  it('tells of a malformed declaration', async () => {
    const text = await explain(undefined, {}, (bench) => bench.backend.malform(KEY, 'alice.yaml:3:5: is required'));
    expect(text).toMatch(/Problems\n {2}alice.yaml:3:5: is required\n/);
    expect(text).toContain('Nothing, until the declaration can be used; what is installed stays as it is.');
  });

  it('tells of a pass that was asked for, in whatever words, which steer no terminal', async () => {
    const bench = new CliBench();
    bench.declare(manifest('alice'), READY);
    await bench.store.annotate(KEY, { [REQUESTED_AT_ANNOTATION]: 'now\u001b[2J' }, new AbortController().signal);
    expect((await bench.run(['explain', 'alice'])).stdout).toContain(
      'A pass was asked for (now?[2J) and has not been made yet.',
    );
  });
});
