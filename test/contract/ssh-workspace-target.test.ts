import { access } from 'node:fs/promises';

import { withBackend } from '../support/backend.ts';
import { cutInTransfer, stutter } from '../support/bad-line.ts';
import { AGENT, CONFIG_DIR, SshHost, type SshHostOptions } from '../support/ssh-host.ts';
import { describeWorkspaceTarget, type WorkspaceTargetBackend } from './workspace-target.ts';

const NO_PROBE = 'nothing on a host is cheaper to ask than a command';
const NEVER_GONE = 'a host that does not answer is not known to be gone';

await withBackend('machine', () => {
  const unsupported = {
    'waits for a target that is gone before the command': NEVER_GONE,
    'gives an equal token while nothing changes': NO_PROBE,
    'gives another token after a plugin or a receipt came or went': NO_PROBE,
    'gives no token for a place that is not there': NO_PROBE,
  };
  describeWorkspaceTarget('ssh', { create: () => createBackend({}), unsupported });
  describeWorkspaceTarget('ssh, 50 ms away, a new key every 8 MB', {
    create: () => createBackend({ latencyMs: 25, machine: { sshdConfig: ['RekeyLimit 8M'] } }),
    unsupported,
  });
  describeWorkspaceTarget('ssh, cut off in mid-transfer, and frozen again and again', {
    create: async () => {
      const { host, backend } = await createHost({});
      await cutInTransfer(await host.locate(), () => host.line.cut());
      const frozen = stutter(host.machine.machine);
      return { ...backend, dispose: () => frozen.stop().then(() => host.close()) };
    },
    unsupported,
  });
});

async function createBackend(options: SshHostOptions): Promise<WorkspaceTargetBackend> {
  return (await createHost(options)).backend;
}

async function createHost(
  options: SshHostOptions,
): Promise<{ readonly host: SshHost; readonly backend: WorkspaceTargetBackend }> {
  const host = await SshHost.boot(options);
  const { machine } = host.machine;
  const backend: WorkspaceTargetBackend = {
    locate: () => host.locate(),
    configDir: CONFIG_DIR,
    owner: AGENT,
    observerUid: 0,
    exists: (name) =>
      access(`${machine.root}${CONFIG_DIR}/${name}`).then(
        () => true,
        () => false,
      ),
    commandLines: () => machine.commandLines(),
    remove: () => host.machine.machine.destroy(),
    cut: () => host.line.cut(),
    blackHole: () => host.line.blackHole(),
    refuse: () => host.line.refuse(),
    dispose: () => host.close(),
  };
  return { host, backend };
}
