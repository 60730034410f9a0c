import type { InstanceRulesOptions } from '../../domain/access.ts';
import { terminal, type ReconcileError } from '../../domain/errors.ts';
import type { Workspace } from '../../domain/workspace.ts';
import type { Instance } from './instance.ts';

/** Answers whose instance is whose. Pure. */
export class InstanceRules {
  readonly tag: string;
  readonly #options: InstanceRulesOptions;

  constructor(options: InstanceRulesOptions) {
    this.tag = options.tag;
    this.#options = options;
  }

  /** Values of the tag that stand for this workspace. */
  tagValues(workspace: Workspace): readonly string[] {
    return [...new Set<string>([workspace.key, ...(this.#options.trustIds ? [workspace.id] : [])])];
  }

  /** The instance that the operator names for this workspace. */
  namedByOperator(workspace: Workspace): string | undefined {
    return this.#options.instances.find((one) => one.workspace === workspace.key)?.instanceId;
  }

  /**
   * `TargetUnproven`, unless the operator or the tag says that it is of this workspace; the operator outweighs the tag. Whose it
   * is otherwise is not told: whoever guesses ids would learn of the workspaces of others.
   */
  refusal({ id, tags }: Instance, workspace: Workspace): ReconcileError | undefined {
    const owner = this.#options.instances.find((one) => one.instanceId === id)?.workspace;
    if (owner === workspace.key) return undefined;
    if (owner !== undefined) {
      const text = `instance ${id} is of another workspace than ${workspace.key}, as the operator has configured`;
      return terminal('TargetUnproven', text);
    }
    const value = tags[this.tag];
    if (value !== undefined && this.tagValues(workspace).includes(value)) return undefined;
    const carries = value === undefined ? `carries no tag ${this.tag}` : `has another value of tag ${this.tag}`;
    return terminal(
      'TargetUnproven',
      `instance ${id} ${carries} and is not proven to be of workspace ${workspace.key}; tag it ${this.tag}=${workspace.key}`,
    );
  }
}
