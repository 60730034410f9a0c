import { FakeAws } from '../support/aws/fake-aws.ts';
import { withBackend } from '../support/backend.ts';
import { cutInTransfer, stutter } from '../support/bad-line.ts';
import { Ec2Hosts } from '../support/ec2-host.ts';
import { workspaceAt } from '../support/workspaces.ts';
import type { WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import { describeWorkspaceTarget, type WorkspaceTargetBackend } from './workspace-target.ts';

const OF_THE_INSTANCE = 'AWS tells of the instance, and of nothing that is on it';
const NEVER_GONE = 'a host that does not answer is not known to be gone';
const CONFIG_DIR = '/configs';
const AGENT = { uid: 1500, gid: 1500 };

const UNSUPPORTED = {
  'waits for a target that is gone before the command': NEVER_GONE,
  'gives another token after a plugin or a receipt came or went': OF_THE_INSTANCE,
  'gives no token for a place that is not there': OF_THE_INSTANCE,
};

await withBackend('machine', () => {
  describeWorkspaceTarget('ec2', { create: () => createBackend(), unsupported: UNSUPPORTED });
  describeWorkspaceTarget('ec2, 50 ms away, a new key every 8 MB, messages in pieces', {
    create: () => createBackend({ latencyMs: 25, sshdConfig: ['RekeyLimit 8M'], isFragmenting: true }),
    unsupported: UNSUPPORTED,
  });
  describeWorkspaceTarget('ec2, cut off in mid-transfer, and frozen again and again', {
    create: () => createBackend({ isBad: true }),
    unsupported: UNSUPPORTED,
  });
});

interface Disturbance {
  readonly latencyMs?: number;
  readonly sshdConfig?: readonly string[];
  readonly isFragmenting?: boolean;
  /** The first transfer is cut off, and then the instance freezes for a moment, again and again. */
  readonly isBad?: boolean;
}

async function createBackend(disturbance: Disturbance = {}): Promise<WorkspaceTargetBackend> {
  const { latencyMs = 0, sshdConfig = [], isFragmenting = false, isBad = false } = disturbance;
  const aws = await FakeAws.start();
  const instance = await aws.launch({
    tags: { 'plugset.dev/workspace': 'team-a/alice' },
    users: [
      { name: 'ubuntu', uid: 1000 },
      { name: 'agent', uid: AGENT.uid, sudo: false },
    ],
    directories: { [CONFIG_DIR]: AGENT.uid },
    sshdConfig,
  });
  instance.line.delay(latencyMs, 'both');
  aws.tunnels.isFragmenting = isFragmenting;
  const hosts = new Ec2Hosts(aws);
  const { machine } = instance.ssh;
  const { signal } = new AbortController();
  const locate = (): Promise<WorkspaceTarget> => hosts.provider.locate(workspaceAt({ ec2: {} }), signal);
  if (isBad) await cutInTransfer(await locate(), () => aws.tunnels.cut());
  const frozen = isBad ? stutter(machine) : undefined;
  return {
    locate,
    configDir: CONFIG_DIR,
    owner: AGENT,
    observerUid: 0,
    exists: (name) =>
      machine.exec(['test', '-e', `${CONFIG_DIR}/${name}`]).then(
        () => true,
        () => false,
      ),
    commandLines: () => machine.commandLines(),
    remove: () => machine.destroy(),
    cut: () => aws.tunnels.cut(),
    blackHole: () => aws.tunnels.freeze(),
    refuse: () => {
      instance.line.refuse();
      hosts.doubt();
      aws.faults.fail('DescribeInstances', 'Unavailable', { status: 503 });
    },
    dispose: async () => {
      await frozen?.stop();
      await hosts.close();
      await aws.close();
    },
  };
}
