/** The one grammar of names: plugins, workspaces, namespaces, engines. Source: design section 5. */
export const NAME_PATTERN = /^[a-z0-9][a-z0-9._-]{0,127}$/;

export const NAME_RULE =
  'lower-case letters, digits, dot, underscore and hyphen, starting with a letter or digit, at most 128 characters';

declare const brand: unique symbol;

/** Name a plugin is installed under; its identity in a workspace. Always obeys {@link NAME_PATTERN}. */
export type PluginName = string & { readonly [brand]: 'PluginName' };

/** `namespace/name` of a workspace. The only thing that travels through the work queue. */
export type WorkspaceKey = string & { readonly [brand]: 'WorkspaceKey' };

export function isName(text: string): boolean {
  return NAME_PATTERN.test(text);
}

/** Brands text as a plugin name, or `undefined` when it breaks the grammar. */
export function parsePluginName(text: string): PluginName | undefined {
  return isName(text) ? (text as PluginName) : undefined;
}

/** Builds a key of parts that a schema has already checked. */
export function workspaceKey(namespace: string, name: string): WorkspaceKey {
  return `${namespace}/${name}` as WorkspaceKey;
}

/** Reads `namespace/name`, or a bare name in the namespace `default`; `undefined` when a part breaks the grammar. */
export function parseWorkspaceKey(text: string): WorkspaceKey | undefined {
  const slash = text.indexOf('/');
  const namespace = slash < 0 ? 'default' : text.slice(0, slash);
  const name = slash < 0 ? text : text.slice(slash + 1);
  return isName(namespace) && isName(name) ? workspaceKey(namespace, name) : undefined;
}

export function splitWorkspaceKey(key: WorkspaceKey): { namespace: string; name: string } {
  const slash = key.indexOf('/');
  return { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}
