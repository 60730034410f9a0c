import { describe, expect, it } from 'vitest';

import { workspaceKey } from '../../../src/domain/name.ts';
import { requireSome } from '../../../src/cli/workspaces.ts';

describe('a namespace that was asked for', () => {
  it('must have something in it: a check that looked at nothing must not be green', () => {
    expect(() => requireSome([], 'prod')).toThrow('no workspaces are declared in namespace prod');
    expect(() => requireSome([workspaceKey('prod', 'a')], 'prod')).not.toThrow();
    expect(() => requireSome([], undefined)).not.toThrow();
  });
});
