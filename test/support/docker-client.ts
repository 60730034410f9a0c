import Docker from 'dockerode';

/** Everything that tests make in an engine carries it, so that all of it can be removed at the end of a run. */
export const TEST_LABEL = 'dev.plugset.test';

export function connectDocker(address: string): Docker {
  const unix = address.startsWith('unix://');
  const url = unix ? undefined : new URL(address);
  return new Docker({
    protocol: 'http',
    socketPath: unix ? address.slice('unix://'.length) : undefined,
    host: url === undefined ? undefined : `http://${url.hostname}`,
    port: url?.port,
  });
}

/** Removes every container and volume of tests, and the images that they were made of. */
export async function removeTestThings(docker: Docker): Promise<void> {
  const filters = { label: [TEST_LABEL] };
  const containers = await docker.listContainers({ all: true, filters });
  await Promise.all(containers.map(({ Id }) => ignoreGone(docker.getContainer(Id).remove({ force: true, v: true }))));
  const { Volumes } = await docker.listVolumes({ filters });
  await Promise.all((Volumes ?? []).map(({ Name }) => ignoreGone(docker.getVolume(Name).remove())));
  const images = await docker.listImages({ filters });
  // One that others were built on goes after them.
  for (const { Id } of images.toSorted((a, b) => b.Created - a.Created))
    await ignoreGone(docker.getImage(Id).remove({ force: true }));
}

/** 404: it is gone; 409: it is being removed by somebody else. */
export async function ignoreGone(removal: Promise<unknown>): Promise<void> {
  try {
    await removal;
  } catch (error) {
    const status = (error as { statusCode?: number }).statusCode;
    if (status !== 404 && status !== 409) throw error;
  }
}
