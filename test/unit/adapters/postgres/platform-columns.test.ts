import { describe, expect, test } from 'vitest';

import { checkColumns } from '../../../../src/adapters/postgres/platform-columns.ts';

const WORKSPACES = ['id', 'name', 'runtime', 'directory_path'];
const PLUGINS = ['workspace_id', 'name', 'source'];

const without = (columns: readonly string[], column: string): readonly string[] =>
  columns.filter((one) => one !== column);

describe('columns of the two queries', () => {
  test('plugins name their workspace by its id, or by its namespace and name', () => {
    expect(checkColumns(WORKSPACES, PLUGINS)).toMatchObject({ joinsById: true });
    const byName = ['workspace', 'name', 'source'];
    expect(checkColumns(without(WORKSPACES, 'id'), byName)).toMatchObject({ joinsById: false });
    expect(checkColumns([...WORKSPACES, 'namespace'], [...byName, 'namespace'])).toMatchObject({ joinsById: false });
  });

  test.each([
    [without(WORKSPACES, 'name'), PLUGINS, 'workspaces must select a column name'],
    [without(WORKSPACES, 'runtime'), PLUGINS, 'workspaces must select a column runtime'],
    [without(WORKSPACES, 'directory_path'), PLUGINS, 'workspaces must select where they run: target, docker_container'],
    [without(WORKSPACES, 'id'), PLUGINS, 'workspaces must select id'],
    [[...WORKSPACES, 'suspended'], PLUGINS, 'unknown column suspended; known are name, namespace, id'],
    [[...WORKSPACES, 'name'], PLUGINS, 'selects the column name twice'],
    [WORKSPACES, without(PLUGINS, 'source'), 'plugins must select a column source'],
    [WORKSPACES, without(PLUGINS, 'workspace_id'), 'plugins must say whose they are: by workspace_id, or by workspace'],
    [WORKSPACES, [...PLUGINS, 'workspace'], 'one of them'],
    [[...WORKSPACES, 'namespace'], ['workspace', 'name', 'source'], 'both queries or none select namespace'],
  ])('%j and %j: %s', (workspaces, plugins, problem) => {
    expect(() => checkColumns(workspaces, plugins)).toThrow(problem);
  });
});
