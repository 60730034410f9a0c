import { describe, expect, it } from 'vitest';

import { paintFor } from '../../../src/cli/style.ts';
import { formatTable, TablePrinter } from '../../../src/cli/table.ts';

describe('formatTable', () => {
  it('makes columns as wide as their widest cell, two spaces apart, without spaces at the end', () => {
    const text = formatTable(
      ['NAME', 'READY'],
      [
        ['alice', 'True'],
        ['b', 'Unknown'],
        ['c', ''],
      ],
    );
    expect(text).toBe('NAME   READY\nalice  True\nb      Unknown\nc\n');
  });

  it('lets what ends a row run on without pushing other rows aside', () => {
    const rows = [
      ['a', 'b', 'c'],
      ['d', 'a long message that ends its row'],
    ];
    expect(formatTable(['A', 'B', 'C'], rows)).toBe('A  B  C\na  b  c\nd  a long message that ends its row\n');
  });

  it('counts characters, not UTF-16 units, and not colours', () => {
    const paint = paintFor({ hasColor: true, isTerminal: true, columns: 80, write: () => undefined });
    const text = formatTable(
      ['A', 'B'],
      [
        [{ text: '💥', color: 'red' }, 'x'],
        ['yy', 'z'],
      ],
      paint,
    );
    expect(text).toBe('A   B\n\u001b[31m💥\u001b[39m   x\nyy  z\n');
  });

  it('keeps what a target or a source says from steering the terminal', () => {
    expect(formatTable(['M'], [['a\u001b[31mb\nc\u202e']])).toBe('M\na?[31mb c?\n');
  });
});

describe('TablePrinter', () => {
  it('puts later rows under the same headers', () => {
    const printer = new TablePrinter(['NAME', 'READY']);
    printer.table([['a-long-name', 'True']]);
    expect(printer.rows([['b', 'False']])).toBe('b            False\n');
  });
});
