import { printable } from '../domain/text.ts';
import { plainPaint, type Color, type Paint } from './style.ts';

export interface Cell {
  readonly text: string;
  readonly color?: Color | undefined;
}

export type Row = readonly (string | Cell)[];

const GAP = '  ';

/**
 * Columns as wide as their widest cell (of those that something follows), two spaces apart. A printer remembers the
 * widths, so that rows which are printed later (`--watch`) stand under the same headers.
 */
export class TablePrinter {
  readonly #headers: readonly string[];
  readonly #paint: Paint;
  #widths: readonly number[];

  constructor(headers: readonly string[], paint: Paint = plainPaint) {
    this.#headers = headers;
    this.#paint = paint;
    this.#widths = headers.map(widthOf);
  }

  /** Header and rows, a line each. */
  table(rows: readonly Row[]): string {
    this.#widen(rows);
    return this.#lines([this.#headers, ...rows]);
  }

  /** Rows alone: under headers that were printed before, or without any. */
  rows(rows: readonly Row[]): string {
    this.#widen(rows);
    return this.#lines(rows);
  }

  #widen(rows: readonly Row[]): void {
    this.#widths = this.#widths.map((width, column) =>
      // What ends a row pushes nothing aside.
      Math.max(width, ...rows.map((row) => (column < lastOf(row) ? widthOf(textOf(row[column])) : 0))),
    );
  }

  #lines(rows: readonly Row[]): string {
    return rows.map((row) => `${this.#line(row)}\n`).join('');
  }

  #line(row: Row): string {
    const last = lastOf(row);
    return row
      .slice(0, last + 1)
      .map((cell, column) => {
        const text = textOf(cell);
        const padding = column === last ? '' : ' '.repeat((this.#widths[column] ?? 0) - widthOf(text));
        return this.#paint(typeof cell === 'string' ? undefined : cell.color, text) + padding;
      })
      .join(GAP);
  }
}

export function formatTable(headers: readonly string[], rows: readonly Row[], paint: Paint = plainPaint): string {
  return new TablePrinter(headers, paint).table(rows);
}

function lastOf(row: Row): number {
  return row.findLastIndex((cell) => textOf(cell) !== '');
}

function textOf(cell: string | Cell | undefined): string {
  if (cell === undefined) return '';
  return printable(typeof cell === 'string' ? cell : cell.text);
}

function widthOf(text: string): number {
  // oxlint-disable-next-line typescript/no-misused-spread -- code points are what counts: a terminal gives each its column
  return [...text].length;
}
