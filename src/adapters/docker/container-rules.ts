import type { ContainerRulesOptions } from '../../domain/access.ts';
import type { Workspace } from '../../domain/workspace.ts';

/** Answers whose container is whose. Pure. */
export class ContainerRules {
  readonly label: string;
  readonly #options: ContainerRulesOptions;

  constructor(options: ContainerRulesOptions) {
    this.label = options.label;
    this.#options = options;
  }

  /** The name a platform gives the container of a workspace when it sets no label; `undefined` where no name proves anything. */
  ruleName(workspace: Workspace): string | undefined {
    const { namePrefix, trustIds } = this.#options;
    return trustIds ? `${namePrefix}${workspace.id.slice(0, 12)}` : undefined;
  }

  /** Values of the label that stand for this workspace. */
  labelValues(workspace: Workspace): readonly string[] {
    return [...new Set<string>([workspace.key, ...(this.#options.trustIds ? [workspace.id] : [])])];
  }

  /** For which workspace the operator names a container. */
  givenTo(container: string, engine: string): string | undefined {
    const { containers } = this.#options;
    return containers.find((one) => one.container === container && one.engine === engine)?.workspace;
  }

  /** The container that the operator names for this workspace on this engine. */
  namedByOperator(workspace: Workspace, engine: string): string | undefined {
    const { containers } = this.#options;
    return containers.find((one) => one.workspace === workspace.key && one.engine === engine)?.container;
  }
}
