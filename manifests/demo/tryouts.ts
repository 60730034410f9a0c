import type { Place } from './place.ts';

/** Something to try in a second terminal. */
export interface Tryout {
  readonly title: string;
  /** For a POSIX shell. */
  readonly command: string;
}

/** Something that plugset answers by a change in a workspace. */
export interface Change extends Tryout {
  readonly workspace: string;
  /** Succeeds once plugset has done its part. */
  readonly proof: string;
}

/** How a person gets at a workspace of the examples. */
export interface Access {
  /** A shell command line that runs in the workspace. */
  readonly run: (name: string, command: string) => string;
  /** Directory that holds `plugins/`, as seen by that command. */
  readonly configDir: (name: string) => string;
}

export function inDirectories(place: Place): Access {
  return { run: (_name, command) => command, configDir: (name) => place.shown('workspaces', name) };
}

export function inContainers(idOf: (name: string) => string): Access {
  // The second terminal need not have it.
  const host = process.env['DOCKER_HOST'];
  const docker = host === undefined ? 'docker' : `docker --host ${host}`;
  return {
    run: (name, command) => {
      const isPlain = /^[\w./ -]+$/.test(command);
      return `${docker} exec ${idOf(name)} ${isPlain ? command : `sh -c '${command}'`}`;
    },
    configDir: () => '/configs',
  };
}

/** What plugset undoes or carries out while the first terminal shows it. */
export function changes(place: Place, { run, configDir }: Access): readonly Change[] {
  const plugins = (name: string): string => `${configDir(name)}/plugins`;
  const skill = `${plugins('alice')}/greeter/skills/greet/SKILL.md`;
  const linter = `insert into plugset.plugins (workspace, name, source) values ('bob', 'linter', 'local://linter')`;
  const notes = place.shown('git/notes');
  return [
    {
      title: 'Declare one more plugin for bob, with SQL: it is installed',
      workspace: 'bob',
      command: `${place.shown('sql')} "${linter}"`,
      proof: run('bob', `test -f ${plugins('bob')}/linter/plugin.yaml`),
    },
    {
      title: 'Edit a file of an installed plugin: it is restored',
      workspace: 'alice',
      command: run('alice', `echo edited >> ${skill}`),
      proof: `! ${run('alice', `grep -q edited ${skill}`)}`,
    },
    {
      title: 'Delete an installed plugin: it comes back',
      workspace: 'bob',
      command: run('bob', `rm -r ${plugins('bob')}/greeter`),
      proof: run('bob', `test -x ${plugins('bob')}/greeter/hooks/session-start.sh`),
    },
    {
      title: 'Move the git branch that alice and carol follow: both get the new commit',
      workspace: 'carol',
      command: `echo 'And by whom.' >> ${notes}/skills/notes/SKILL.md && git -C ${notes} commit -qam 'by whom'`,
      proof: run('carol', `grep -q whom ${plugins('carol')}/notes/skills/notes/SKILL.md`),
    },
    {
      title: 'Declare one more workspace, with YAML',
      workspace: 'dave',
      command: `${place.shown('plugset')} apply -f ${place.shown('dave.yaml')}`,
      proof: `test -f ${place.shown('workspaces/dave')}/plugins/linter/plugin.yaml`,
    },
    {
      title: 'Delete carol: what plugset installed there goes, the workspace itself stays',
      workspace: 'carol',
      command: `${place.shown('sql')} "delete from plugset.workspaces where name = 'carol'"`,
      proof: `! ${run('carol', `test -e ${plugins('carol')}/notes`)}`,
    },
  ];
}

/** What can be looked at meanwhile. `-w` goes on until Ctrl-C. */
export function looks(place: Place, metricsUrl: string): readonly Tryout[] {
  const plugset = place.shown('plugset');
  return [
    { title: 'Watch what this terminal shows, or one workspace with its plugins', command: `${plugset} status -w` },
    { title: '', command: `${plugset} status alice` },
    { title: 'Why is it so, and what happens next', command: `${plugset} explain alice` },
    { title: 'What would be changed now (exit code 2: something)', command: `${plugset} plan` },
    { title: 'Count', command: `curl -s ${metricsUrl}/metrics | grep plugset_plugin_changes_total` },
  ];
}
