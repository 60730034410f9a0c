import fc from 'fast-check';

/** Right more often than not, and wrong in all the ways that its grammar knows. */
const textLike = (...right: readonly string[]): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 40, arbitrary: fc.constantFrom(...right) },
    fc.string({ unit: fc.constantFrom(...Array.from('aZ09-_.:/@; \n"\'$🧰')), maxLength: 4 }),
    fc.string({ unit: fc.constantFrom('a', '1', '-', '.'), minLength: 120, maxLength: 300 }),
  );

const rarely = (wrong: fc.Arbitrary<unknown>, right: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
  fc.oneof({ weight: 20, arbitrary: right }, wrong);

const optional = (shape: Readonly<Record<string, fc.Arbitrary<unknown>>>): fc.Arbitrary<object> =>
  fc.record(shape, { requiredKeys: [] });

const anyTarget: fc.Arbitrary<object> = fc.oneof(
  fc.record({ docker: optional({ container: textLike('ws-alice', 'Ws_1'), engine: textLike('edge') }) }),
  fc.record({ directory: optional({ path: textLike('/srv/agents', '/') }) }),
  fc.record({
    ssh: optional({
      host: textLike('a.example', '10.0.0.5', '::1', 'x'),
      port: rarely(fc.constantFrom(0, 65_536, 1.5, '22'), fc.constantFrom(1, 22, 65_535)),
      user: textLike('root', '_agent'),
    }),
  }),
  fc.record({
    ec2: optional({
      instanceId: textLike('i-01234567', 'i-0123456789abcdef0'),
      tags: fc.dictionary(textLike('Name', 'team/a'), textLike('', 'alice'), { maxKeys: 3 }),
      region: textLike('eu-central-1', 'us-gov-east-1'),
    }),
  }),
  fc.record({
    pod: optional({
      name: textLike('alice-0', 'a.b'),
      selector: fc.dictionary(textLike('app', 'team/a'), textLike('', 'alice'), { maxKeys: 3 }),
      container: textLike('agent'),
    }),
  }),
  fc.constant({ external: {} }),
  fc.constantFrom({ external: { url: 'x' } }, {}, { docker: {}, external: {} }, { cloud: {} }),
);

const anyPlugin = fc
  .record({
    name: textLike('superpowers', 'a.b', 'greeter'),
    source: textLike('superpowers', 'local://a', 'github://obra/superpowers#v4', ' a\n'),
    digest: fc.option(textLike(`sha256:${'0a'.repeat(32)}`), { nil: undefined }),
    config: fc.option(rarely(fc.constant([]), fc.constantFrom({}, { a: [1, null] })), { nil: undefined }),
  })
  .map(({ digest, config, ...rest }) => ({
    ...rest,
    ...(digest === undefined ? {} : { digest }),
    ...(config === undefined ? {} : { config }),
  }));

/** Specs of workspaces, of which about every third is one that can be used. */
export const anySpec = fc
  .record({
    target: anyTarget,
    plugins: fc.array(anyPlugin, { maxLength: 3 }),
    rest: optional({
      id: textLike('alice', '4C1e_0.b'),
      runtime: textLike('claude-code', 'Hermes 2'),
      suspend: rarely(fc.constant('no'), fc.boolean()),
      policy: optional({
        mode: rarely(fc.constant('apply'), fc.constantFrom('Observe', 'Plan', 'Apply')),
        drift: rarely(fc.constant(false), fc.constantFrom('Off', 'Warn', 'Enforce')),
        prune: fc.constantFrom('Off', 'Managed', 'All'),
        adopt: fc.constantFrom('Equal', 'Replace'),
        deletion: fc.constantFrom('Remove', 'Orphan'),
      }),
    }),
  })
  .map(({ rest, ...spec }) => ({ ...spec, ...rest }));
