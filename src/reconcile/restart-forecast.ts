import { activationSchema, NO_ACTIVATION, whyNever } from '../domain/activation.ts';
import type { Plan } from '../domain/plan.ts';
import { stateKey } from '../domain/state-key.ts';
import type { RestartForecast } from '../domain/status.ts';
import type { ControllerState } from '../ports/controller-state.ts';
import type { HostPlace } from '../ports/plugin-host.ts';
import type { Looks } from './looks.ts';
import type { Pass } from './pass.ts';
import { activationClass, takenUp } from './activation-class.ts';

/** Foretells what passes do after they have carried a plan out; `undefined`: that is nothing. Costs a look at the runtime, and one at the target where the profile names files that are reread. */
export async function forecastRestart(
  pass: Pass,
  place: HostPlace,
  plan: Plan,
  state: ControllerState,
  looks: Looks,
): Promise<RestartForecast | undefined> {
  const { key, workspace, observation, signal } = pass;
  const { activator, identity } = place.target;
  const { mode, restart } = workspace.policy;
  const moves = observation?.journalPending === true || takenUp(plan.entries, place.profile).length > 0;
  if (activator === undefined || mode === 'Observe' || !moves) return undefined;
  if (observation !== undefined && (await activationClass(pass, place, plan, observation, looks)) !== 'restart')
    return undefined;
  const document = await state.get(stateKey('activation', key), signal);
  const record = activationSchema.safeParse(document?.value).data ?? NO_ACTIVATION;
  const { wouldLose } = await activator.inspect(place.configDir, signal);
  const never = whyNever(record, { identity, wouldLose }, restart);
  return never === undefined ? { follows: true } : { follows: false, reason: never.reason, message: never.message };
}
