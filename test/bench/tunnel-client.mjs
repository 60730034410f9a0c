// plugset's way to an EC2 instance, in a process of its own as in life, where AWS is another machine: the stand-in for it has
// an event loop to itself. Plain JavaScript on dist/, because Node 20 runs no TypeScript. Who and where AWS is comes from the
// environment, as the SDK takes it.
//
//   argv: workspace as JSON, state directory    messages in: {argv, stdin: file}    out: {bytes} that were printed, {failed}
import { createReadStream } from 'node:fs';

import { Ec2TargetProvider } from '../../dist/adapters/aws/ec2-target-provider.js';
import { FilesControllerState } from '../../dist/adapters/files/files-controller-state.js';
import { PooledSshHosts } from '../../dist/adapters/ssh/pooled-ssh-hosts.js';
import { SystemClock } from '../../dist/adapters/system/clock.js';
import { DEFAULT_EC2_ACCESS } from '../../dist/domain/access.js';
import { BUILT_IN_PROFILES } from '../../dist/domain/profile.js';

const [workspace, stateDirectory] = process.argv.slice(2);
const clock = new SystemClock();
const state = new FilesControllerState({ stateDirectory, clock });
const provider = new Ec2TargetProvider({
  access: { ...DEFAULT_EC2_ACCESS, regions: [{ name: process.env.AWS_REGION }] },
  profiles: BUILT_IN_PROFILES,
  hosts: new PooledSshHosts({ state: () => state, clock }),
  clock,
});
const { signal } = new AbortController();
const target = provider.locate(JSON.parse(workspace), signal);

async function run({ argv, stdin }) {
  // Nothing stands between the login and the command, as with `ssh`.
  const as = { uid: 1000, gid: 1000 };
  const input = stdin === undefined ? {} : { stdin: createReadStream(stdin) };
  const options = { as, deadlineMs: 120_000, maxOutputBytes: 2 ** 28, signal, ...input };
  const result = await (await target).run(argv, options);
  if (result.kind !== 'exited' || result.code !== 0) throw new Error(JSON.stringify(result).slice(0, 1000));
  return result.stdout.length;
}

process.on('message', (command) => {
  run(command).then(
    (bytes) => process.send({ bytes }),
    (error) => process.send({ failed: String(error) }),
  );
});
process.on('disconnect', () => process.exit());
