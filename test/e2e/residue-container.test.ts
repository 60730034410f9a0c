import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type Docker from 'dockerode';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { findCondition } from '../../src/domain/condition.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import { REQUESTED_AT_ANNOTATION, RESTART_REQUESTED_AT_ANNOTATION } from '../../src/domain/workspace.ts';
import { withBackend } from '../support/backend.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { eventually } from '../support/eventually.ts';
import { LOADER_PLUGINS } from '../support/loader-plugins.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';
import { ensurePythonImage } from '../support/python-image.ts';

const NAME = 'residue';
const LOADER = readFileSync(new URL('../support/loader.py', import.meta.url), 'utf8');
/** The loader comes by at each start, then a word says so. */
const MAIN = `rm -f /started; mkdir -p /configs; python3 -c "$0" /configs; : >/started; trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done`;
/** Every file but plugins and what plugset keeps, with its mode. */
const SNAPSHOT = `cd /configs; find . -path ./plugins -prune -o -path ./.plugset -prune -o -type f -exec stat -c '%a %n' {} + -exec sha256sum {} + | sort; find . -path ./plugins -prune -o -path ./.plugset -prune -o -type d -print | sort`;
const USERS = `cd /configs; mkdir -p .claude/hooks skills/shared
printf 'Mine,\\n\\nwithout an end' >CLAUDE.md; printf '{"mcpServers":{"search":{"command":"mine"}},"theme":"light"}' >.claude/settings.json
printf 'my lib\\n' >.claude/hooks/_lib.py; printf 'shared\\n' >skills/shared/SKILL.md; chmod 600 .claude/settings.json`;

const NAMES = Object.keys(LOADER_PLUGINS);
const PAIRS = NAMES.flatMap((first) => NAMES.filter((one) => one !== first).map((second) => [first, second] as const));

/** Real residue: a loader written from the facts of the old system, started by real restarts of a real container. */
await withBackend('docker', (engine) => {
  describe('residue in a container', () => {
    let containers: TestContainers;
    let plugset: Plugset;
    let container: Docker.Container;

    beforeAll(() => ensurePythonImage(new TestContainers(engine).docker), 600_000);
    beforeEach(async () => {
      containers = new TestContainers(engine);
      plugset = await startPlugset({
        store: { kind: 'files' },
        config: {
          engines: [{ name: 'default', address: engine }],
          profiles: BUILT_IN_PROFILES.map((profile) => ({
            ...profile,
            bootMs: 0,
            memoryFile: 'CLAUDE.md',
            rereads: ['skills/**'],
          })),
          activation: { quietMs: 200, patienceMs: 2_000, perHour: 100 },
          resolveIntervalMs: 500,
        },
      });
      for (const [name, files] of Object.entries(LOADER_PLUGINS))
        await writePlugin(join(plugset.dirs.registry, name), files);
      container = await containers.create({
        image: 'python',
        name: `ws-${NAME}`,
        labels: { 'plugset.dev/workspace': `default/${NAME}` },
        command: ['sh', '-c', MAIN, LOADER],
      });
      await loaded();
    });
    afterEach(async () => {
      await plugset.stop();
      await containers.removeAll();
    });

    const shell = (script: string): Promise<string> => containers.exec(container, ['sh', '-euc', script]);
    const loaded = (): Promise<string> => eventually(() => shell('cat /started'));
    const startedAt = async (): Promise<string> => (await container.inspect()).State.StartedAt;
    /** Declared, installed or removed, and the runtime was started again for it. */
    const declare = async (...plugins: readonly string[]): Promise<void> => {
      const before = await startedAt();
      await plugset.app.store.apply(
        {
          apiVersion: 'plugset.dev/v1alpha1',
          kind: 'Workspace',
          metadata: { name: NAME },
          spec: {
            runtime: 'claude-code',
            target: { docker: {} },
            policy: { allowEmpty: true },
            plugins: plugins.map((name) => ({ name, source: name })),
          },
        },
        AbortSignal.timeout(60_000),
      );
      await plugset.untilReady(NAME);
      await eventually(async () => expect(await startedAt()).not.toBe(before));
      await plugset.until(NAME, ({ conditions }) =>
        expect(findCondition(conditions, 'ActivationPending')?.reason).toBeUndefined(),
      );
      await loaded();
    };

    /** Files of the workspace itself. */
    const listed = async (): Promise<readonly string[]> => {
      const paths = await shell(
        'cd /configs; find . -path ./plugins -prune -o -path ./.plugset -prune -o -type f -print',
      );
      return paths
        .split('\n')
        .filter((path) => path !== '' && !path.endsWith('setup.log'))
        .toSorted();
    };

    it.each(PAIRS)('I-60, I-63: %s goes without a trace, and %s after it', async (first, second) => {
      await shell(USERS);
      const users = await shell(SNAPSHOT);
      await declare(second);
      const alone = await shell(SNAPSHOT);
      await declare(...NAMES.filter((name) => name === first || name === second));
      expect(await shell(SNAPSHOT)).not.toBe(alone);
      await declare(second);
      expect(withoutSetup(await shell(SNAPSHOT))).toBe(withoutSetup(alone));
      await declare();
      expect(withoutSetup(await shell(SNAPSHOT))).toBe(withoutSetup(users));
      const { history } = await plugset.status(NAME);
      const told = history.some(({ summary }) => summary.includes('plugins/scripted/setup.sh (it ran at each start'));
      expect(told).toBe(first === 'scripted' || second === 'scripted');
    });

    it.each([1, 2, 3])(
      'any sequence of installs, edits by the user, restarts and removals leaves his own (%i)',
      async (seed) => {
        const random = generator(seed);
        await shell(USERS);
        const [files, settings] = [
          await listed(),
          JSON.parse(await shell('cat /configs/.claude/settings.json')) as object,
        ];
        const own: string[] = [];
        const installed = new Set<string>();
        for (let step = 0; step < 8; step++) {
          const choice = random();
          if (choice < 0.35) {
            own.push(`own${step}`);
            await shell(
              `cd /configs; [ -z "$(tail -c 1 CLAUDE.md)" ] || echo >>CLAUDE.md; echo own${step} >>CLAUDE.md; echo >.claude/hooks/own${step}.sh
            python3 -c 'import json; p = ".claude/settings.json"; s = json.load(open(p)); s["own${step}"] = ${step}; json.dump(s, open(p, "w"))'`,
            );
          } else if (choice < 0.5) {
            const before = await startedAt();
            const asked = { [RESTART_REQUESTED_AT_ANNOTATION]: `${step}`, [REQUESTED_AT_ANNOTATION]: `${step}` };
            if (installed.size === 0) continue;
            await plugset.app.store.annotate(workspaceKey('default', NAME), asked, AbortSignal.timeout(60_000));
            await eventually(async () => expect(await startedAt()).not.toBe(before));
            await loaded();
          } else {
            const name = NAMES[Math.floor(random() * NAMES.length)] ?? '';
            if (!installed.delete(name)) installed.add(name);
            await declare(...NAMES.filter((one) => installed.has(one)));
          }
        }
        if (installed.size > 0) await declare();
        const lines = (await shell('cat /configs/CLAUDE.md')).split('\n').filter((line) => line !== '');
        expect(lines).toEqual(['Mine,', 'without an end', ...own]);
        expect(JSON.parse(await shell('cat /configs/.claude/settings.json'))).toEqual({
          ...settings,
          ...Object.fromEntries(own.map((name) => [name, Number(name.slice(3))])),
        });
        expect(await listed()).toEqual([...files, ...own.map((name) => `./.claude/hooks/${name}.sh`)].toSorted());
        expect(await shell('cat /configs/.claude/hooks/_lib.py /configs/skills/shared/SKILL.md')).toBe(
          'my lib\nshared\n',
        );
      },
    );

    it('an upgrade of nothing but skill text reaches the copy that the runtime reads, without a restart', async () => {
      await declare('careful');
      const started = await startedAt();
      const next = { 'skills/shared/SKILL.md': 'newer\n', 'skills/shared/more/deep.md': 'deep\n' };
      await writePlugin(join(plugset.dirs.registry, 'careful'), { ...LOADER_PLUGINS['careful'], ...next });
      await eventually(async () => expect(await shell('cat /configs/skills/shared/SKILL.md')).toBe('newer\n'));
      expect(await shell('cat /configs/skills/shared/more/deep.md')).toBe('deep\n');
      await plugset.requested(NAME);
      expect(findCondition((await plugset.status(NAME)).conditions, 'ActivationPending')?.reason).toBeUndefined();
      expect(await startedAt()).toBe(started);
    });

    it('an empty workspace is empty again after all of them, and what the user changed is left', async () => {
      const empty = await shell(SNAPSHOT);
      await declare('careful', 'search');
      await declare();
      expect(await shell(SNAPSHOT)).toBe(empty);
      await declare('careful', 'search');
      await shell(`cd /configs; echo mine >'skills/with blank/scripts/a b.py'; echo 'And mine.' >>CLAUDE.md`);
      await declare();
      const left = await shell(`cd /configs; find . -type f ! -path './.plugset/*' -exec cat {} + | sort`);
      expect(left).toBe('And mine.\nmine\n');
    });
  });
});

function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state / 2_147_483_648;
  };
}

/** What a script of a plugin has done stays, and is said. */
function withoutSetup(snapshot: string): string {
  return snapshot.replaceAll(/^.*setup\.log\n/gm, '');
}
