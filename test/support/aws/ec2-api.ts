import type { FakeEndpoint } from './fake-endpoint.ts';
import type { FakeInstance, InstanceState } from './fake-instance.ts';
import { AwsApiError } from './faults.ts';
import type { XmlElements } from './xml.ts';

/** What there is in the region. */
export interface AwsRegionContents {
  readonly instances: Iterable<FakeInstance>;
  readonly endpoints: Iterable<FakeEndpoint>;
  /** At most so many things are told at once, whatever is asked for. */
  readonly pageSize: number;
}

const STATE_CODES: Readonly<Record<InstanceState, number>> = {
  pending: 0,
  running: 16,
  'shutting-down': 32,
  terminated: 48,
  stopping: 64,
  stopped: 80,
};

export function describeInstances(form: URLSearchParams, region: AwsRegionContents): XmlElements {
  const ids = listed(form, 'InstanceId');
  if (ids.length > 0 && form.has('MaxResults')) {
    throw new AwsApiError('InvalidParameterCombination', 'The parameter instancesSet cannot be used with maxResults');
  }
  const filters = filtersOf(form);
  const known = [...region.instances];
  for (const id of ids) instanceOf(id, known);
  const found = known
    .filter(({ id }) => ids.length === 0 || ids.includes(id))
    .filter((instance) => fits(filters, (name) => instanceAttribute(instance, name)));
  const { page, nextToken } = pageOf(found, form, region.pageSize, [5, 1000]);
  return { reservationSet: page.map((instance) => ({ instancesSet: [instanceElements(instance)] })), nextToken };
}

export function describeInstanceConnectEndpoints(form: URLSearchParams, region: AwsRegionContents): XmlElements {
  const ids = listed(form, 'InstanceConnectEndpointId');
  const filters = filtersOf(form);
  const known = [...region.endpoints];
  const lacking = ids.find((id) => !known.some((endpoint) => endpoint.id === id));
  if (lacking !== undefined) {
    throw new AwsApiError('InvalidInstanceConnectEndpointId.NotFound', `The endpoint ${lacking} does not exist`);
  }
  const found = known
    .filter(({ id }) => ids.length === 0 || ids.includes(id))
    .filter((endpoint) => fits(filters, (name) => endpointAttribute(endpoint, name)));
  const { page, nextToken } = pageOf(found, form, region.pageSize, [1, 50]);
  return { instanceConnectEndpointSet: page.map(endpointElements), nextToken };
}

export function getConsoleOutput(form: URLSearchParams, region: AwsRegionContents): XmlElements {
  const { id, isNitro, consoleOutput } = instanceOf(form.get('InstanceId') ?? '', [...region.instances]);
  if (form.get('Latest') === 'true' && !isNitro) {
    throw new AwsApiError(
      'UnsupportedOperation',
      'This instance type does not support retrieving the latest console logs.',
    );
  }
  const last = Buffer.from(consoleOutput).subarray(-65_536);
  return { instanceId: id, timestamp: new Date().toISOString(), output: last.toString('base64') };
}

function instanceOf(id: string, known: readonly FakeInstance[]): FakeInstance {
  if (!/^i-[0-9a-f]{8,17}$/.test(id)) throw new AwsApiError('InvalidInstanceID.Malformed', `Invalid id: "${id}"`);
  const found = known.find((instance) => instance.id === id);
  if (found === undefined) {
    throw new AwsApiError('InvalidInstanceID.NotFound', `The instance ID '${id}' does not exist`);
  }
  return found;
}

function instanceElements({ id, state, launchedAt, tags, ...instance }: FakeInstance): XmlElements {
  const network = {
    privateIpAddress: instance.privateIp,
    ipv6Address: instance.options.ipv6,
    subnetId: instance.subnetId,
    vpcId: instance.vpcId,
  };
  return {
    instanceId: id,
    instanceState: { code: STATE_CODES[state], name: state },
    launchTime: launchedAt.toISOString(),
    ...(hasNetwork(state) ? network : {}),
    tagSet: Object.entries(tags).map(([key, value]) => ({ key, value })),
  };
}

/** One that is going or gone has lost its place in it. */
function hasNetwork(state: InstanceState): boolean {
  return state !== 'terminated' && state !== 'shutting-down';
}

function instanceAttribute(instance: FakeInstance, name: string): readonly string[] | undefined {
  if (name.startsWith('tag:')) return present(instance.tags[name.slice('tag:'.length)]);
  switch (name) {
    case 'instance-id':
      return [instance.id];
    case 'instance-state-name':
      return [instance.state];
    case 'private-ip-address':
      return hasNetwork(instance.state) ? [instance.privateIp] : [];
    case 'subnet-id':
      return hasNetwork(instance.state) ? [instance.subnetId] : [];
    case 'tag-key':
      return Object.keys(instance.tags);
    case 'vpc-id':
      return hasNetwork(instance.state) ? [instance.vpcId] : [];
    default:
      return undefined;
  }
}

function endpointElements({ id, state, ...endpoint }: FakeEndpoint): XmlElements {
  return {
    instanceConnectEndpointId: id,
    instanceConnectEndpointArn: `arn:aws:ec2:eu-test-1:000000000000:instance-connect-endpoint/${id}`,
    state,
    dnsName: endpoint.dnsName,
    fipsDnsName: endpoint.fipsDnsName,
    vpcId: endpoint.vpcId,
    subnetId: endpoint.subnetId,
    ipAddressType: endpoint.ipAddressType,
    preserveClientIp: false,
  };
}

function endpointAttribute(endpoint: FakeEndpoint, name: string): readonly string[] | undefined {
  switch (name) {
    case 'instance-connect-endpoint-id':
      return [endpoint.id];
    case 'state':
      return [endpoint.state];
    case 'subnet-id':
      return [endpoint.subnetId];
    case 'vpc-id':
      return [endpoint.vpcId];
    default:
      return undefined;
  }
}

function present(value: string | undefined): readonly string[] {
  return value === undefined ? [] : [value];
}

interface Filter {
  readonly name: string;
  readonly values: readonly string[];
}

function filtersOf(form: URLSearchParams): readonly Filter[] {
  const names = listed(form, 'Filter', '.Name');
  const filters = names.map((name, index) => ({ name, values: listed(form, `Filter.${index + 1}.Value`) }));
  const values = filters.flatMap((filter) => filter.values);
  if (values.length > 200) {
    const message = 'The maximum number of filter values specified on a single call is 200';
    throw new AwsApiError('FilterLimitExceeded', message);
  }
  if (values.some((value) => value.length > 255)) {
    throw new AwsApiError('FilterLimitExceeded', 'The maximum length for a filter value is 255 characters');
  }
  return filters;
}

/** All filters must fit; of a filter, one value, in which `*` and `?` stand for what they usually do. */
function fits(filters: readonly Filter[], attribute: (name: string) => readonly string[] | undefined): boolean {
  return filters.every(({ name, values }) => {
    const actual = attribute(name);
    if (actual === undefined) throw new AwsApiError('InvalidParameterValue', `The filter '${name}' is invalid`);
    return values.some((pattern) => actual.some((value) => patternOf(pattern).test(value)));
  });
}

/** A backslash takes the meaning from the character after it. */
function patternOf(wanted: string): RegExp {
  const literal = (char: string): string => char.replace(/[^\w]/u, '\\$&');
  const parts = wanted.match(/\\?[^]/gu) ?? [];
  const source = parts.map((part) => {
    if (part === '*') return '.*';
    return part === '?' ? '.' : literal(part.length > 1 && part.startsWith('\\') ? part.slice(1) : part);
  });
  return new RegExp(`^${source.join('')}$`, 's');
}

function listed(form: URLSearchParams, name: string, end = ''): readonly string[] {
  const values: string[] = [];
  for (let index = 1; form.has(`${name}.${index}${end}`); index += 1) {
    values.push(form.get(`${name}.${index}${end}`) ?? '');
  }
  return values;
}

function pageOf<T>(
  all: readonly T[],
  form: URLSearchParams,
  pageSize: number,
  [least, most]: readonly [number, number],
) {
  const asked = Number(form.get('MaxResults') ?? most);
  if (!(asked >= least && asked <= most)) {
    throw new AwsApiError('InvalidParameterValue', `MaxResults is ${least} to ${most}`);
  }
  const start = Number(Buffer.from(form.get('NextToken') ?? '', 'base64url').toString());
  const end = start + Math.min(asked, pageSize);
  const nextToken = end < all.length ? Buffer.from(String(end)).toString('base64url') : undefined;
  return { page: all.slice(start, end), nextToken };
}
