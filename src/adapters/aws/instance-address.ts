/** Where an instance that is known by its id is found. AWS gives no id to a second instance. */
export function instanceAddress(region: string, instanceId: string): string {
  return `ec2:${region}:id:${instanceId}`;
}

/** `undefined`: it is the address of something else. */
export function instanceAt(address: string): { readonly region: string; readonly instanceId: string } | undefined {
  const [, region, instanceId] = /^ec2:([^:]+):id:(i-[0-9a-f]+)$/.exec(address) ?? [];
  return region === undefined || instanceId === undefined ? undefined : { region, instanceId };
}
