import { ScriptedPluginHost } from '../../src/plugins/plugin-host.ts';
import { FakeAws } from '../support/aws/fake-aws.ts';
import { withBackend } from '../support/backend.ts';
import { cutInApplies, stutter } from '../support/bad-line.ts';
import { Ec2Hosts } from '../support/ec2-host.ts';
import { workspaceAt } from '../support/workspaces.ts';
import { describePluginHost, type PluginHostBackend } from './plugin-host.ts';

const CONFIG_DIR = '/configs';
const AGENT = { uid: 1500, gid: 1500 };
const { signal } = new AbortController();

interface Disturbance {
  readonly latencyMs?: number;
  readonly sshdConfig?: readonly string[];
  readonly isFragmenting?: boolean;
  /** Applies are cut off in mid-transfer, and the instance freezes for a moment, again and again. */
  readonly isBad?: boolean;
}

await withBackend('machine', () => {
  describePluginHost('ec2', { create: (disk) => createBackend(disk) });
  describePluginHost('ec2, 50 ms away, a new key every 8 MB, messages in pieces', {
    create: (disk) => createBackend(disk, { latencyMs: 25, sshdConfig: ['RekeyLimit 8M'], isFragmenting: true }),
  });
  describePluginHost('ec2, applies cut off in mid-transfer, and frozen again and again', {
    create: (disk) => createBackend(disk, { isBad: true }),
    unsupported: {
      'I-62: a second apply is told at once that the lock is held': 'both go over one connection, so a cut is for both',
      'a target without a shell is named':
        'after a cut nobody is let in there: sshd asks a shell script for pushed keys',
    },
  });
});

async function createBackend(disk: 'shared' | 'own', disturbance: Disturbance = {}): Promise<PluginHostBackend> {
  const { latencyMs, sshdConfig, isFragmenting = false, isBad = false } = disturbance;
  const aws = await FakeAws.start();
  const instance = await aws.launch({
    tags: { 'plugset.dev/workspace': 'team-a/alice' },
    users: [
      { name: 'ubuntu', uid: 1000 },
      { name: 'agent', uid: AGENT.uid, sudo: false },
    ],
    directories: { [CONFIG_DIR]: AGENT.uid },
    ...(sshdConfig === undefined ? {} : { sshdConfig }),
  });
  const { machine } = instance.ssh;
  const { uid, gid } = AGENT;
  if (disk === 'own')
    await machine.shell(`mount -t tmpfs -o size=1m,nr_inodes=400,mode=755,uid=${uid},gid=${gid} own ${CONFIG_DIR}`);
  aws.tunnels.isFragmenting = isFragmenting;
  if (latencyMs !== undefined) instance.line.delay(latencyMs, 'both');
  const hosts = new Ec2Hosts(aws);
  const target = await hosts.provider.locate(workspaceAt({ ec2: {} }), signal);
  // The login needs a shell on the instance, which a case may take away.
  await target.run(['true'], { as: 'observer', deadlineMs: 30_000, signal });
  const host = new ScriptedPluginHost();
  const frozen = isBad ? stutter(machine) : undefined;
  return {
    host: isBad ? cutInApplies(host, () => aws.tunnels.cut()) : host,
    target,
    configDir: CONFIG_DIR,
    owner: AGENT,
    shell: (script, who = 'agent') => {
      const as = who === 'agent' ? ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'] : [];
      return machine.exec([...as, 'sh', '-euc', `cd ${CONFIG_DIR}; ${script}`]);
    },
    hide: async (program) => void (await machine.exec(['rm', `/usr/bin/${program}`])),
    seal: async () => void (await machine.exec(['mount', '-o', 'remount,ro', CONFIG_DIR])),
    dispose: async () => {
      await frozen?.stop();
      await hosts.close();
      await aws.close();
    },
  };
}
