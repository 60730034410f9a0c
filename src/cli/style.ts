import type { Output } from './context.ts';

export type Color = 'green' | 'yellow' | 'red' | 'dim' | 'bold';

const CODES: Readonly<Record<Color, readonly [number, number]>> = {
  green: [32, 39],
  yellow: [33, 39],
  red: [31, 39],
  dim: [2, 22],
  bold: [1, 22],
};

/** Colours text, or leaves it as it is. */
export type Paint = (color: Color | undefined, text: string) => string;

export const plainPaint: Paint = (_color, text) => text;

export function paintFor(output: Output): Paint {
  if (!output.hasColor) return plainPaint;
  return (color, text) => {
    if (color === undefined || text === '') return text;
    const [on, off] = CODES[color];
    return `\u001b[${on}m${text}\u001b[${off}m`;
  };
}
