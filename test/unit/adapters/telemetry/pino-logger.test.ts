import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { PinoLogger, type LogLevel } from '../../../../src/adapters/telemetry/pino-logger.ts';
import { terminal } from '../../../../src/domain/errors.ts';

type Line = Record<string, unknown>;

function setUp(level: LogLevel = 'debug') {
  const raw: string[] = [];
  const logger = PinoLogger.create({ level, destination: { write: (line: string) => void raw.push(line) } });
  return { logger, raw, lines: (): Line[] => raw.map((line) => JSON.parse(line) as Line) };
}

const SECRET = 'Zx9Qw8Er7Ty6Ui5Op4As3Df2Gh1';

describe('PinoLogger', () => {
  test('one JSON object a line: level, time, fields, message', () => {
    const { logger, raw, lines } = setUp();
    logger.info('ready', { key: 'team-a/alice', seconds: 0.5 });
    expect(raw[0]).toMatch(/\n$/);
    expect(lines()).toEqual([
      {
        level: 'info',
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
        key: 'team-a/alice',
        seconds: 0.5,
        msg: 'ready',
      },
    ]);
  });

  test('lines below the level are dropped, and their fields not even looked at', () => {
    const { logger, lines } = setUp('warn');
    const fields = Object.defineProperty({}, 'costly', {
      enumerable: true,
      get: () => expect.unreachable('nobody reads this'),
    });
    logger.debug('a', fields);
    logger.info('b', fields);
    logger.warn('c');
    logger.error('d');
    expect(lines().map((line) => [line['level'], line['msg']])).toEqual([
      ['warn', 'c'],
      ['error', 'd'],
    ]);
  });

  test('a derived logger adds its fields; a field that is given again is in the line once', () => {
    const { logger, raw, lines } = setUp();
    logger.with({ key: 'a', phase: 'load' }).with({ phase: 'plan' }).info('x', { key: 'b' });
    expect(lines()[0]).toMatchObject({ key: 'b', phase: 'plan' });
    expect(raw[0]?.match(/"key"/g)).toHaveLength(1);
  });

  test('a fault is printed with its stack, and so is what nobody classified', () => {
    const { logger, lines } = setUp();
    for (const error of [terminal('Internal', 'cannot be'), new Error('no')]) logger.error('x', { error });
    for (const line of lines()) expect(line['error']).toMatchObject({ stack: expect.stringContaining('.test.ts') });
  });

  test('an error that was foreseen is printed with name, class, reason, code and causes, and nothing else', () => {
    const { logger, lines } = setUp();
    const socket = Object.assign(new Error('connect ECONNREFUSED'), {
      code: 'ECONNREFUSED',
      config: { headers: SECRET },
    });
    const error = terminal(
      'AuthenticationFailed',
      'the forge refused our credential',
      new Error('wrapped', { cause: socket }),
    );
    logger.error('pass failed', { error });
    expect(lines()[0]?.['error']).toEqual({
      name: 'ReconcileError',
      message: 'the forge refused our credential',
      class: 'terminal',
      reason: 'AuthenticationFailed',
      cause: {
        name: 'Error',
        message: 'wrapped',
        cause: { name: 'Error', message: 'connect ECONNREFUSED', code: 'ECONNREFUSED' },
      },
    });
  });

  test('several errors in one are all printed', () => {
    const { logger, lines } = setUp();
    logger.error('x', { error: new AggregateError([new Error('one'), 'two'], 'both') });
    expect(lines()[0]?.['error']).toMatchObject({ message: 'both', errors: [{ message: 'one' }, 'two'] });
  });

  test('what JSON cannot say is said otherwise', () => {
    const { logger, lines } = setUp();
    const cycle: Line = { name: 'loop' };
    cycle['self'] = cycle;
    logger.info('x', {
      cycle,
      big: 12n,
      when: new Date(0),
      never: new Date(Number.NaN),
      bytes: Buffer.from('abc'),
      map: new Map([['a', new Set([1, 2])]]),
      url: new URL('https://bot:pw123456@git.example/x'),
      run: () => 1,
      nothing: null,
      missing: undefined,
    });
    expect(lines()[0]).toMatchObject({
      cycle: { name: 'loop', self: '[circular]' },
      big: '12',
      when: '1970-01-01T00:00:00.000Z',
      never: '[invalid date]',
      bytes: '[3 bytes]',
      map: { a: [1, 2] },
      url: 'https://[redacted]@git.example/x',
      run: '[function]',
      nothing: null,
    });
  });

  test('depth and number of items are limited', () => {
    const { logger, raw } = setUp();
    const deep = Array.from({ length: 10_000 }).reduce<object>((inner) => ({ inner }), {});
    logger.info('x', { deep, long: Array(10_000).fill(1), wide: Object.fromEntries(Array(5_000).entries()) });
    expect(raw[0]).toContain('[too deep]');
    expect(raw[0]).toContain('9800 more');
    expect(raw[0]?.length).toBeLessThan(10_000);
  });

  test('fields that cannot be read do not fail the caller', () => {
    const { logger, lines } = setUp();
    const fields = Object.defineProperty({}, 'bad', {
      enumerable: true,
      get: () => {
        throw new Error('a getter with a bug');
      },
    });
    logger.error('still said', fields);
    expect(lines()[0]).toMatchObject({ msg: 'still said', unprintable: ['bad'] });
  });
});

describe('seeded secrets', () => {
  const { logger, raw } = setUp();
  const nested = { list: [{ deeper: { password: SECRET, note: `GITEA_TOKEN=${SECRET}` } }] };
  const cause = new Error(`clone of https://bot:${SECRET}@git.example/x failed`);
  logger.error(`could not reach postgres://app:${SECRET}@db/plugset`, {
    nested,
    DATABASE_URL: `postgres://app:${SECRET}@db/plugset`,
    token: { value: SECRET },
    secret: [SECRET],
    passphrase: 12345678901,
    authorization: `Bearer ${SECRET}`,
    headers: new Map([['Cookie', `session=${SECRET}`]]),
    error: terminal('AuthenticationFailed', `Bearer ${SECRET}`, cause),
    [`password=${SECRET}`]: 'a secret as a name',
  });
  logger.with({ apiKey: SECRET, url: `https://${SECRET}@git.example` }).info('bound fields');

  test('none is in what was written, at any depth', () => {
    expect(raw).toHaveLength(2);
    expect(raw.join('')).not.toContain(SECRET);
    expect(raw.join('')).not.toContain('12345678901');
    expect(raw.join('')).toContain('git.example/x failed');
  });

  test('wherever a secret is put under a secret name, it does not come out', () => {
    const place = fc.letrec<{ tree: unknown }>((tie) => ({
      tree: fc.oneof(
        { depthSize: 'small' },
        fc.constant({ clientSecret: SECRET }),
        fc.constant({ note: `token: ${SECRET}` }),
        fc.array(tie('tree'), { maxLength: 3 }),
        fc.dictionary(fc.constantFrom('a', 'list', 'error'), tie('tree'), { maxKeys: 3 }),
      ),
    })).tree;
    fc.assert(
      fc.property(place, (value) => {
        const sink = setUp();
        sink.logger.info('x', { value });
        expect(sink.raw.join('')).not.toContain(SECRET);
      }),
    );
  });
});
