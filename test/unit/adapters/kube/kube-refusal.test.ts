import { describe, expect, it } from 'vitest';

import { KubeRefusal } from '../../../../src/adapters/kube/kube-refusal.ts';

describe('a refusal', () => {
  it.each([
    [401, 'terminal', 'AuthenticationFailed'],
    [403, 'terminal', 'AccessDenied'],
    [404, 'transient', 'ObjectNotFound'],
    [409, 'transient', 'Conflict'],
    [422, 'transient', 'Internal'],
    [429, 'waiting', 'Throttled'],
    [500, 'transient', 'Unreachable'],
    [503, 'transient', 'Unreachable'],
  ])('HTTP %i is %s, %s', (status, errorClass, reason) => {
    expect(new KubeRefusal('GET /x', status, {})).toMatchObject({ class: errorClass, reason, status });
  });

  it('tells two of one status apart', () => {
    const said = { code: 409, reason: 'AlreadyExists', message: 'leases "plugset" already exists' };
    const refusal = new KubeRefusal('POST /x', 409, said);
    expect(refusal.statusReason).toBe('AlreadyExists');
    expect(refusal.message).toBe('POST /x: HTTP 409 AlreadyExists: leases "plugset" already exists');
  });

  it.each([
    ['the header', '3', {}, 3_000],
    ['the body', undefined, { details: { retryAfterSeconds: 2 } }, 2_000],
    ['the header before the body', '3', { details: { retryAfterSeconds: 2 } }, 3_000],
    ['neither', undefined, {}, 1_000],
    ['neither, in words', 'soon', {}, 1_000],
    ['the body, where the header has words', 'soon', { details: { retryAfterSeconds: 2 } }, 2_000],
    ['too much', '86400', {}, 120_000],
  ])('waits as long as %s says', (_, header, said, ms) => {
    expect(new KubeRefusal('GET /x', 429, said, header).retryAfterMs).toBe(ms);
  });

  it('of a server that says when to come back waits', () => {
    expect(new KubeRefusal('GET /x', 503, {}, '5')).toMatchObject({ class: 'waiting', retryAfterMs: 5_000 });
  });

  it.each([
    ['too old', 410, {}, true],
    ['of the future', 504, { details: { causes: [{ reason: 'ResourceVersionTooLarge' }] } }, true],
    ['slow', 504, {}, false],
  ])('knows a version that is %s', (_, status, said, isLost) => {
    expect(new KubeRefusal('GET /x', status, said).isVersionLost).toBe(isLost);
  });

  it('of a kind that nobody installed says so, since the server does not', () => {
    expect(new KubeRefusal('GET /x', 404, {}).message).toMatch(/HTTP 404: it does not know this kind of objects; /);
    expect(new KubeRefusal('GET /x', 404, { reason: 'NotFound', message: 'pods "a" not found' }).message).toBe(
      'GET /x: HTTP 404 NotFound: pods "a" not found',
    );
  });

  it('quotes one line, and no more than that', () => {
    const { message } = new KubeRefusal('GET /x', 500, { message: `a\n\u001b[31m${'b'.repeat(10_000)}` });
    expect(message).toMatch(/^GET \/x: HTTP 500: a \?\[31mb+$/);
    expect(message.length).toBeLessThan(400);
  });
});
