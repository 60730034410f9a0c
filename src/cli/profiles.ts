import { Command } from 'commander';

import { gatherSettings } from '../config.ts';
import { settingOptions } from '../config/options.ts';
import { canonicalJson } from '../domain/digest.ts';
import {
  BUILT_IN_PROFILES,
  findProfile,
  profilesWith,
  writtenProfile,
  type RuntimeProfile,
} from '../domain/profile.ts';
import type { CliContext } from './context.ts';
import { formatDocument, outputOption, type Format } from './output.ts';
import { paintFor } from './style.ts';
import { formatTable } from './table.ts';

interface ProfilesOptions {
  readonly output: Format;
}

export function profilesCommand(context: CliContext): Command {
  const command = new Command('profiles')
    .summary('what plugset knows of each runtime')
    .description(
      'Prints the runtime profiles in force: those that are built in, with those of the configuration over and beside\n' +
        'them. They say where plugins go, who owns them, and what takes a restart. Opens no store and no target.',
    )
    .argument('[RUNTIME]', 'only this one')
    .addOption(outputOption())
    .addHelpText('after', HELP)
    .action((runtime: string | undefined, options: ProfilesOptions, self: Command) =>
      print(context, runtime, options, self),
    );
  for (const option of settingOptions('daemon')) command.addOption(option);
  return command;
}

const HELP = `
Examples:
  plugset profiles                                 a line for each runtime
  plugset profiles --config plugset.yaml hermes    what a daemon with this file knows of one
  plugset profiles claude-code -o yaml             as it would stand in the file, to be changed there

Exit codes: 0 printed, 1 there is no such profile, or a setting cannot be used.`;

function print(context: CliContext, runtime: string | undefined, { output }: ProfilesOptions, command: Command): void {
  const profiles = profilesWith(gatherSettings(command.opts()).settings.profiles);
  const shown = runtime === undefined ? profiles : [profileOf(profiles, runtime)];
  if (output === 'yaml' || output === 'json') {
    context.stdout.write(formatDocument(shown.map(writtenProfile), output));
    return;
  }
  const header = ['RUNTIME', 'CONFIG DIRECTORY', 'OWNER', 'BOOT', 'REREADS', 'RESTART', 'FROM'];
  context.stdout.write(formatTable(header, shown.map(rowOf), paintFor(context.stdout)));
}

function profileOf(profiles: readonly RuntimeProfile[], runtime: string): RuntimeProfile {
  const found = findProfile(profiles, runtime);
  if (found !== undefined) return found;
  const known = profiles.map((profile) => profile.runtime).join(', ');
  throw new Error(`there is no profile of the runtime ${runtime}; there are ${known}`);
}

function rowOf(profile: RuntimeProfile): readonly string[] {
  const { runtime, owner, bootMs, rereads, activation } = profile;
  return [
    runtime,
    directoriesOf(profile),
    owner === 'configDir' ? 'as there' : `${owner.uid}:${owner.gid}`,
    `${bootMs / 1000}s`,
    rereads.join(' ') || '-',
    activation === undefined ? 'by its engine' : activation.restart.join(' '),
    originOf(profile),
  ];
}

/** Kinds of targets that have one directory in common are named together; a directory that is a target is itself one. */
function directoriesOf({ configDir }: RuntimeProfile): string {
  const kinds = new Map<string, string[]>();
  for (const [kind, path] of Object.entries(configDir)) {
    if (kind === 'directory' && path === '.') continue;
    kinds.set(path, [...(kinds.get(path) ?? []), kind]);
  }
  if (kinds.size === 1) return [...kinds.keys()].join('');
  return Array.from(kinds, ([path, names]) => `${path} (${names.join(', ')})`).join(' ');
}

function originOf(profile: RuntimeProfile): string {
  const builtIn = findProfile(BUILT_IN_PROFILES, profile.runtime);
  if (builtIn === undefined) return 'configuration';
  const isChanged = canonicalJson(writtenProfile(builtIn)) !== canonicalJson(writtenProfile(profile));
  return isChanged ? 'built in, changed' : 'built in';
}
