import { ScriptedPluginHost } from '../../src/plugins/plugin-host.ts';
import { withBackend } from '../support/backend.ts';
import { cutInApplies, stutter } from '../support/bad-line.ts';
import { CONFIG_DIR, SshHost, type SshHostOptions } from '../support/ssh-host.ts';
import { describePluginHost, type PluginHostBackend } from './plugin-host.ts';

const LOGIN = { uid: 1000, gid: 1000 };

await withBackend('machine', () => {
  describePluginHost('ssh, /configs of the agent', { create: (disk) => createBackend(disk, {}) });
  describePluginHost('ssh, /configs of whoever logs in', {
    create: (disk) => createBackend(disk, { owner: LOGIN }),
  });
  describePluginHost('ssh, 50 ms away, a new key every 8 MB', {
    create: (disk) => createBackend(disk, { latencyMs: 25, machine: { sshdConfig: ['RekeyLimit 8M'] } }),
  });
  describePluginHost('ssh, applies cut off in mid-transfer, and frozen again and again', {
    create: async (disk) => {
      const ssh = await SshHost.boot();
      const backend = await backendOn(ssh, disk);
      const frozen = stutter(ssh.machine.machine);
      return {
        ...backend,
        host: cutInApplies(backend.host, () => ssh.line.cut()),
        dispose: () => frozen.stop().then(() => ssh.close()),
      };
    },
    unsupported: {
      'I-62: a second apply is told at once that the lock is held': 'both go over one connection, so a cut is for both',
    },
  });
});

async function createBackend(disk: 'shared' | 'own', options: SshHostOptions): Promise<PluginHostBackend> {
  return backendOn(await SshHost.boot(options), disk);
}

async function backendOn(host: SshHost, disk: 'shared' | 'own'): Promise<PluginHostBackend> {
  const { machine } = host.machine;
  const { uid, gid } = host.owner;
  if (disk === 'own')
    await machine.shell(`mount -t tmpfs -o size=1m,nr_inodes=400,mode=755,uid=${uid},gid=${gid} own ${CONFIG_DIR}`);
  return {
    host: new ScriptedPluginHost(),
    target: await host.locate(),
    configDir: CONFIG_DIR,
    owner: host.owner,
    shell: (script, who = 'agent') => {
      const as = who === 'agent' ? ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'] : [];
      return machine.exec([...as, 'sh', '-euc', `cd ${CONFIG_DIR}; ${script}`]);
    },
    hide: async (program) => void (await machine.exec(['rm', `/usr/bin/${program}`])),
    seal: async () => void (await machine.exec(['mount', '-o', 'remount,ro', CONFIG_DIR])),
    dispose: () => host.close(),
  };
}
