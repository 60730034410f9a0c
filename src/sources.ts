import { GitSource } from './adapters/git/git-source.ts';
import { GrantedGitSource, type Credentials } from './adapters/git/granted-git-source.ts';
import { LocalSource } from './adapters/local/local-source.ts';
import type { Config } from './config.ts';
import { transient } from './domain/errors.ts';
import type { Clock } from './ports/clock.ts';
import type { PluginSource } from './ports/plugin-source.ts';
import type { ScratchSpace } from './ports/scratch-space.ts';
import { SourceRegistry } from './reconcile/source-registry.ts';

/** What sources can be told. */
export type SourceConfig = Pick<
  Config,
  | 'registries'
  | 'gitRoots'
  | 'githubUrl'
  | 'giteaUrl'
  | 'gitCredentials'
  | 'caFile'
  | 'knownHosts'
  | 'sshKey'
  | 'allowUnpinned'
  | 'allowLoopback'
  | 'path'
>;

/** Every scheme that this build knows. A new one is registered here and nowhere else. */
export function createSources(config: SourceConfig, clock: Clock, scratch: ScratchSpace): SourceRegistry {
  return new SourceRegistry([new LocalSource({ dirs: config.registries, clock }), gitSource(config, clock, scratch)]);
}

function gitSource(config: SourceConfig, clock: Clock, scratch: ScratchSpace): PluginSource {
  const { gitCredentials, sshKey, knownHosts } = config;
  const create = ({ credentialFiles, sshKey: key }: Credentials): PluginSource =>
    new GitSource({
      clock,
      scratch,
      path: config.path,
      githubBaseUrl: config.githubUrl,
      giteaBaseUrl: config.giteaUrl,
      credentialFiles,
      caFile: config.caFile,
      ssh:
        knownHosts === undefined
          ? undefined
          : { knownHostsFile: knownHosts, identityFiles: key === undefined ? {} : { '*': key } },
      fileRoots: config.gitRoots,
      allowUnpinned: config.allowUnpinned,
      allowLoopback: config.allowLoopback,
      allowHttp: false,
    });
  const all = [...gitCredentials, ...(sshKey === undefined ? [] : [sshKey])];
  if (all.some(({ namespaces }) => namespaces !== undefined))
    return new GrantedGitSource({ credentials: gitCredentials, sshKey, create });
  return create({ credentialFiles: gitCredentials.map(({ file }) => file), sshKey: sshKey?.file });
}

/**
 * The grammar of all schemes without their sources: says `InvalidSource` of a text, and touches nothing. Which places
 * the operator allows is not asked.
 */
export function createSourceGrammar(allowUnpinned: boolean, clock: Clock): Pick<SourceRegistry, 'parse'> {
  const anywhere: SourceConfig = {
    registries: [],
    gitRoots: [],
    githubUrl: 'https://github.com',
    giteaUrl: 'https://gitea.invalid',
    gitCredentials: [],
    caFile: undefined,
    knownHosts: undefined,
    sshKey: undefined,
    allowUnpinned,
    allowLoopback: false,
    path: '',
  };
  const create = (): Promise<never> => Promise.reject(transient('Internal', 'a grammar fetches nothing'));
  return createSources(anywhere, clock, { create });
}
