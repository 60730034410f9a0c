import { activationSchema, NO_ACTIVATION, whyNever } from '../domain/activation.ts';
import type { Plan } from '../domain/plan.ts';
import { stateKey } from '../domain/state-key.ts';
import type { RestartForecast } from '../domain/status.ts';
import type { ControllerState } from '../ports/controller-state.ts';
import type { HostPlace } from '../ports/plugin-host.ts';
import type { Pass } from './pass.ts';

/** Foretells what passes do after they have carried a plan out; `undefined`: that is nothing. Costs one look at the runtime. */
export async function forecastRestart(
  { key, workspace, observation, signal }: Pass,
  { target, configDir }: HostPlace,
  { entries }: Plan,
  state: ControllerState,
): Promise<RestartForecast | undefined> {
  const { activator, identity } = target;
  const { mode, restart } = workspace.policy;
  // What is adopted is running already.
  const moves = observation?.journalPending === true || entries.some(({ action }) => action !== 'adopt');
  if (activator === undefined || mode === 'Observe' || !moves) return undefined;
  const document = await state.get(stateKey('activation', key), signal);
  const record = activationSchema.safeParse(document?.value).data ?? NO_ACTIVATION;
  const { wouldLose } = await activator.inspect(configDir, signal);
  const never = whyNever(record, { identity, wouldLose }, restart);
  return never === undefined ? { follows: true } : { follows: false, reason: never.reason, message: never.message };
}
