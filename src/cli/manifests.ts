import { Argument, Command } from 'commander';

import { crdManifest } from '../adapters/kube/crd.ts';
import type { CliContext } from './context.ts';

const MANIFESTS = { crd: crdManifest } as const satisfies Record<string, () => string>;

export function manifestsCommand(context: CliContext): Command {
  return new Command('manifests')
    .summary('what a Kubernetes cluster has to know, as YAML')
    .description(
      'Prints the definition of the custom resource Workspace (workspaces.plugset.dev), as this version of plugset reads\n' +
        'it: made from the schema that checks files and rows. Asks no cluster, and needs none.',
    )
    .addArgument(new Argument('<WHAT>', 'what to print').choices(Object.keys(MANIFESTS)))
    .addHelpText('after', HELP)
    .action((what: keyof typeof MANIFESTS) => context.stdout.write(MANIFESTS[what]()));
}

const HELP = `
Examples:
  plugset manifests crd | kubectl apply --server-side -f -
  plugset manifests crd | kubectl diff --server-side -f -     is the one in the cluster of this version?
  kubectl explain workspace.spec.policy                       then says what every field means

Exit codes: 0 printed, 1 there is no such manifest.`;
