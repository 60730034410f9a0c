import { median, medianDifference, medianRatio, type Pairs } from './measure.ts';

/** What a figure must reach; left out for rows that only inform. */
export interface Wanted {
  readonly text: string;
  readonly isMet: boolean;
}

export interface Row {
  readonly what: string;
  /** Tier of the pass; `-` where there is no pass. */
  readonly tier: 'probe' | 'deep' | '-';
  readonly ours: string;
  readonly against: string;
  /** How the two compare. */
  readonly figure: string;
  readonly wanted?: Wanted;
}

type Subject = Pick<Row, 'what' | 'tier'> & { readonly againstWhat: string };

export function timesFaster(subject: Subject, pairs: Pairs, atLeast?: number): Row {
  const ratio = medianRatio(pairs.against, pairs.ours);
  const wanted = atLeast === undefined ? undefined : { text: `>= ${atLeast} x`, isMet: ratio >= atLeast };
  return compared(subject, pairs, `${ratio.toFixed(0)} x faster`, wanted);
}

export function timesAsLong(subject: Subject, pairs: Pairs, atMost?: number): Row {
  const ratio = medianRatio(pairs.ours, pairs.against);
  const wanted = atMost === undefined ? undefined : { text: `<= ${atMost} x`, isMet: ratio <= atMost };
  return compared(subject, pairs, `${ratio.toFixed(2)} x`, wanted);
}

export function millisecondsOver(subject: Subject, pairs: Pairs, atMost: number): Row {
  const difference = medianDifference(pairs.ours, pairs.against);
  return compared(subject, pairs, `+${difference.toFixed(0)} ms`, {
    text: `<= +${atMost} ms`,
    isMet: difference <= atMost,
  });
}

/** A duration that is compared with nothing. */
export function alone(what: string, ms: number, figure: string): Row {
  return { what, tier: '-', ours: duration(ms), against: '', figure };
}

function compared(subject: Subject, pairs: Pairs, figure: string, wanted: Wanted | undefined): Row {
  const { againstWhat, ...rest } = subject;
  const row = { ...rest, ours: duration(median(pairs.ours)), figure };
  const against = `${duration(median(pairs.against))} ${againstWhat}`;
  return wanted === undefined ? { ...row, against } : { ...row, against, wanted };
}

function duration(ms: number): string {
  if (ms < 1) return `${(ms * 1000).toFixed(ms < 0.01 ? 1 : 0)} us`;
  return ms < 10_000 ? `${ms.toFixed(ms < 10 ? 2 : 0)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

const HEADINGS = ['what', 'tier', 'ours (p50)', 'against (p50)', 'figure', 'wanted', ''] as const;

export function renderTable(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.what,
    row.tier,
    row.ours,
    row.against,
    row.figure,
    row.wanted?.text ?? '',
    row.wanted === undefined ? '' : row.wanted.isMet ? 'ok' : 'MISSED',
  ]);
  const lines = [[...HEADINGS], ...cells];
  const widths = HEADINGS.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
