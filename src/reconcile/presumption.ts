import type { ReconcileError } from '../domain/errors.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';
import type { HostPlace } from '../ports/plugin-host.ts';
import { passError, type Pass } from './pass.ts';

/** A wrong guess costs one run that is refused, and these bytes on the way to it. */
const MOST_BYTES = 4 * 1024 * 1024;

const ROOT: Observation['owner'] = { uid: 0, gid: 0 };

/**
 * The first converge of a target that seems new, without a look before it: a run costs more than all that is done in one,
 * and that look would find nothing. So nothing is what is presumed, and the run that applies is the first to see the
 * place. It checks the whole presumption before it creates anything, and what is reported is the look that ends it.
 */
export class Presumption {
  /** The target that refused a workspace: it is looked at from then on. */
  readonly #refusedBy = new Map<WorkspaceKey, string>();
  /** Who had the config directory when a target was looked at last, by runtime: most of a fleet is alike. */
  readonly #owners = new Map<string, Observation['owner']>();

  /** Where a probe saw nothing of ours: whether we never were there as far as we know, and the content is not big. */
  isWorthTrying({ key, previous, desired }: Pass, { target }: HostPlace): boolean {
    const trees = [...desired.artifacts.values()];
    return (
      trees.length > 0 &&
      trees.reduce((bytes, tree) => bytes + tree.contentBytes, 0) <= MOST_BYTES &&
      Object.keys(previous.converged).length === 0 &&
      this.#refusedBy.get(key) !== target.identity
    );
  }

  /**
   * Works on a copy of the pass, as if a look had found `blank`. `false`: nothing was done, because `work` said so or the
   * target refused; look at it. Throws where the target did not answer. Unless it is `true` the pass knows nothing that
   * was presumed.
   */
  async attempt(
    pass: Pass,
    { target }: HostPlace,
    work: (attempt: Pass, blank: Observation) => Promise<boolean>,
  ): Promise<boolean> {
    const attempt: Pass = { ...pass };
    const owner = this.#owners.get(pass.workspace.runtime) ?? ROOT;
    try {
      if (!(await work(attempt, { owner, plugins: [], odd: [], journalPending: false }))) return false;
    } catch (thrown) {
      const error = passError(pass, thrown);
      if (pass.signal.aborted || !isAnswer(error)) {
        pass.history = attempt.history;
        pass.handledApproval = attempt.handledApproval;
        pass.spent = attempt.spent;
        throw error;
      }
      this.#refusedBy.set(pass.key, target.identity);
      pass.logger.info('the target is not as new as it seemed, so it is looked at', { error });
      return false;
    }
    Object.assign(pass, attempt);
    return true;
  }

  /** A look shows who is to be expected on the next target. */
  learn({ workspace }: Pass, { owner }: Observation): void {
    this.#owners.set(workspace.runtime, owner);
  }

  forget(key: WorkspaceKey): void {
    this.#refusedBy.delete(key);
  }
}

/** Whether the target itself refused. One that was not reached, or gave no answer in time, has nothing to add in a look. */
function isAnswer({ class: errorClass, reason }: ReconcileError): boolean {
  if (errorClass === 'transient') return reason !== 'Unreachable' && reason !== 'ExecTimeout';
  return errorClass === 'terminal';
}
