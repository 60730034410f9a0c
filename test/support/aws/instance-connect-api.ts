import type { FakeInstance } from './fake-instance.ts';
import { AwsApiError } from './faults.ts';

/** Takes a key that an instance is to let in for a while. Accepted means that AWS took it; the instance has its own mind. */
export async function sendSshPublicKey(
  request: Readonly<Record<string, unknown>>,
  instances: readonly FakeInstance[],
  keyWindowMs: number,
): Promise<{ readonly Success: true }> {
  const { InstanceId, InstanceOSUser, SSHPublicKey } = request;
  if (!isText(InstanceId, /^i-[a-f0-9]{8,30}$/)) throw invalid('InstanceId');
  // The part of AWS's pattern that makes a name; no dot alone, since it becomes a path here.
  if (!isText(InstanceOSUser, /^[a-z_][-@\w.]{0,31}\$?$/i)) throw invalid('InstanceOSUser');
  if (!isText(SSHPublicKey, /^[^]{80,4096}$/) || !/^ssh-(ed25519|rsa) AAAA[\w+/]+=*( .*)?\s*$/.test(SSHPublicKey)) {
    throw invalid('SSHPublicKey');
  }
  const instance = instances.find(({ id }) => id === InstanceId);
  if (instance === undefined || instance.state === 'terminated') {
    throw new AwsApiError('EC2InstanceNotFoundException', `Instance ${InstanceId} does not exist`);
  }
  if (!instance.isRunning) {
    throw new AwsApiError('EC2InstanceStateInvalidException', `Instance ${InstanceId} is ${instance.state}`);
  }
  await instance.acceptKey(InstanceOSUser, SSHPublicKey, Date.now() + keyWindowMs);
  return { Success: true };
}

function isText(value: unknown, pattern: RegExp): value is string {
  return typeof value === 'string' && pattern.test(value);
}

function invalid(name: string): AwsApiError {
  return new AwsApiError('InvalidArgsException', `The ${name} is invalid`);
}
