import { spawnSync } from 'node:child_process';

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { commandText } from '../../../../src/adapters/ssh/quote.ts';

const MARK = 'mark';

/** Whatever a user may have as login shell, and how it is told to run a text. */
const SHELLS: Readonly<Record<string, readonly string[]>> = {
  sh: ['sh', '-c'],
  dash: ['dash', '-c'],
  bash: ['bash', '-c'],
  busybox: ['busybox', 'sh', '-c'],
  zsh: ['zsh', '-c'],
  fish: ['fish', '--no-config', '-c'],
};

const NASTY = ["'", '"', '\\', '\n', '\r', '$(id)', '`id`', '!!', '*', ';', '-n', '%s', '\\0101', '\u00e9', '😀', ''];

describe('commandText', () => {
  for (const [name, [program = '', ...args]] of Object.entries(SHELLS)) {
    const printed = (argv: readonly string[]): { stdout: string; stderr: string } => {
      const { stdout, stderr, error } = spawnSync(program, [...args, commandText(argv, MARK)], { encoding: 'utf8' });
      if (error !== undefined) throw error;
      return { stdout, stderr };
    };
    const isMissing = spawnSync(program, [...args, 'true']).error !== undefined;

    it.skipIf(isMissing)(`brings every argument through ${name} as it is`, () => {
      const element = fc.oneof(
        fc.string({ unit: 'binary', maxLength: 20 }).map((text) => text.replaceAll('\0', '')),
        fc.array(fc.constantFrom(...NASTY), { maxLength: 6 }).map((parts) => parts.join('')),
      );
      fc.assert(
        fc.property(fc.array(element, { maxLength: 5 }), (argv) => {
          const { stdout } = printed(['printf', '<%s>', ...argv]);
          const texts = argv.length === 0 ? ['<>'] : argv.map((one) => `<${one}>`);
          expect(stdout).toBe(`${MARK}${texts.join('')}`);
        }),
        { numRuns: 40 },
      );
    });

    it.skipIf(isMissing)(`sets the environment of a command through ${name}`, () => {
      const text = commandText(['env'], MARK, ['PATH=/usr/bin:/bin', `ODD=a 'b' $c\nd`, 'LC_ALL=']);
      const { stdout } = spawnSync(program, [...args, text], { encoding: 'utf8' });
      expect(stdout.slice(MARK.length).split('\n')).toEqual(
        expect.arrayContaining(['PATH=/usr/bin:/bin', `ODD=a 'b' $c`, 'd', 'LC_ALL=']),
      );
    });

    it.skipIf(isMissing)(`marks where the output of the command begins, in ${name}`, () => {
      expect(printed(['sh', '-c', 'echo out; echo err >&2'])).toEqual({
        stdout: `${MARK}out\n`,
        stderr: `${MARK}err\n`,
      });
    });
  }

  it('shows the login shell nothing but plain characters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const shown = commandText(['echo', text], MARK).replace(`exec /bin/sh -c 'eval "$(printf %b "$1")"' sh `, '');
        expect(shown).toMatch(/^'[A-Za-z0-9 _./:=,+@\\-]*'$/);
      }),
    );
  });
});
