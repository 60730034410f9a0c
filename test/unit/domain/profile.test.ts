import { describe, expect, it } from 'vitest';

import { BUILT_IN_PROFILES, findProfile } from '../../../src/domain/profile.ts';

describe('profiles', () => {
  it.each(['claude-code', 'hermes', 'langgraph', 'deepagents', 'crewai', 'autogen', 'openclaw'])(
    '%s is built in: /configs in a container, the directory itself elsewhere',
    (runtime) => {
      expect(findProfile(BUILT_IN_PROFILES, runtime)).toMatchObject({
        runtime,
        configDir: { docker: '/configs', directory: '.' },
        owner: 'configDir',
        disposable: expect.arrayContaining(['__pycache__', '*.pyc', 'node_modules']),
      });
    },
  );

  it.each([
    ['claude-code', '/configs'],
    ['hermes', '/home/ubuntu/.hermes'],
    ['langgraph', '/opt/configs'],
  ])('%s is in %s on hosts and instances', (runtime, configDir) => {
    expect(findProfile(BUILT_IN_PROFILES, runtime)?.configDir).toMatchObject({ ssh: configDir, ec2: configDir });
  });

  it('hyphen and underscore are equal, case is not', () => {
    expect(findProfile(BUILT_IN_PROFILES, 'claude_code')?.runtime).toBe('claude-code');
    expect(findProfile(BUILT_IN_PROFILES, 'Claude-Code')).toBeUndefined();
  });

  it('nothing is guessed for an unknown runtime', () => {
    expect(findProfile(BUILT_IN_PROFILES, 'claude')).toBeUndefined();
  });
});
