import type { ReflectorState } from '../../ports/metrics.ts';
import type { Reflector } from './reflector.ts';

/** Of copies of one kind of object, as of one copy; none where there is none. */
export function stateOfAll(
  resource: string,
  copies: readonly Pick<Reflector<unknown>, 'state'>[],
): readonly ReflectorState[] {
  if (copies.length === 0) return [];
  const states = copies.map((copy) => copy.state());
  return [
    {
      resource,
      objects: states.reduce((sum, { objects }) => sum + objects, 0),
      isSynced: states.every(({ isSynced }) => isSynced),
      silentSeconds: Math.max(...states.map(({ silentSeconds }) => silentSeconds)),
    },
  ];
}
