/*
 * Three plugins of the shapes that are found in the wild: they share a skill, a helper of hooks, an MCP server, a handler and
 * the rules of a memory file; one runs a script of its own.
 */

const handler = (command: string): unknown => ({ matcher: 'Bash', hooks: [{ type: 'command', command }] });
const GUARD = handler('bash ${CLAUDE_DIR}/hooks/guard.sh');
const SEARCH = { command: 'search', args: ['--all'] };

export const LOADER_PLUGINS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  careful: {
    'plugin.yaml': 'name: careful\nversion: 1.0.0\n',
    'README.md': 'For people.\n',
    'rules/style.md': 'Be brief.\n\nVery brief.\n',
    'skills/shared/SKILL.md': 'shared\n',
    'skills/with blank/scripts/a b.py': 'print()\n',
    'hooks/_lib.py': 'lib = 1\n',
    'hooks/guard.sh': '#!/bin/sh\nexit 0\n',
    'commands/go.md': 'Go.\n',
    'settings-fragment.json': JSON.stringify({ hooks: { PreToolUse: [GUARD] }, mcpServers: { search: SEARCH } }),
  },
  search: {
    'plugin.yaml': 'name: search\nversion: 1.0.0\n',
    'NOTES.md': 'A fragment\n\n\nwith holes.\n',
    'rules/style.md': 'Be brief.\n\nVery brief.\n',
    'skills/shared/SKILL.md': 'shared\n',
    'hooks/_lib.py': 'lib = 1\n',
    'settings-fragment.json': JSON.stringify({
      hooks: { PreToolUse: [GUARD], Stop: [handler('${CLAUDE_DIR}/hooks/bye')] },
      mcpServers: { search: SEARCH, other: { command: 'other' } },
      theme: 'dark',
    }),
  },
  scripted: {
    'plugin.yaml': 'name: scripted\nversion: 1.0.0\n',
    'rules/last.md': 'Be last.\n',
    'hooks/_lib.py': 'lib = 2\n',
    'setup.sh': 'echo set up >>"$CONFIGS_DIR/setup.log"\n',
  },
};
