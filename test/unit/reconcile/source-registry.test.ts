import { expect, it } from 'vitest';

import { createSourceGrammar } from '../../../src/sources.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const grammar = createSourceGrammar(false, new FakeClock());

it('an address as a forge shows it is refused with the scheme that was meant', () => {
  expect(() => grammar.parse('https://github.com/obra/superpowers')).toThrow(
    /^unknown scheme https:\/\/; this plugset knows .*; a Git repository is git\+https:\/\/$/,
  );
});

it('any other unknown scheme is refused with those that are known', () => {
  expect(() => grammar.parse('ftp://a.example/b')).toThrow(/^unknown scheme ftp:\/\/; this plugset knows .*, local$/);
});
