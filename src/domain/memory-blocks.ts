import type { MemoryBlock } from './loader.ts';

/** A memory file after an edit. */
export interface MemoryEdit {
  readonly text: string;
  /** Markers of blocks that were taken out or have changed. */
  readonly changed: readonly string[];
  /** Markers of blocks that stand there with other words: somebody has edited them. */
  readonly left: readonly string[];
}

const BETWEEN = '\n\n';

/**
 * A plugin's blocks replaced by those of its next version, or taken out if that has none. Where they begin their markers
 * tell, where they end only what they are known to say: the empty lines of a block are no end of it, and what follows
 * without one may be the user's.
 */
export function replaceBlocks(text: string, before: readonly MemoryBlock[], after: readonly MemoryBlock[]): MemoryEdit {
  const whole = joined(before);
  const next = joined(after);
  if (before.length === 0 || whole === next) return { text, changed: [], left: [] };
  const at = findBlock(text, whole);
  if (at !== undefined) {
    const rest = text.slice(at + whole.length);
    const edited = next === '' ? rest.slice(1) : next + rest;
    return { text: text.slice(0, at) + edited, changed: before.map(({ marker }) => marker), left: [] };
  }
  return replaceSingly(text, before, after);
}

/** Where somebody has edited some of them, the others go one by one. What a new version adds beside those stays away. */
function replaceSingly(text: string, before: readonly MemoryBlock[], after: readonly MemoryBlock[]): MemoryEdit {
  const next = new Map(after.map((block) => [block.marker, block.text]));
  const markers = before.map(({ marker }) => marker);
  const changed: string[] = [];
  const left: string[] = [];
  for (const { marker, text: block } of before) {
    const young = next.get(marker);
    const at = findBlock(text, block);
    if (at === undefined) {
      const isThere = young !== undefined && findBlock(text, young) !== undefined;
      if (!isThere && young !== block && findBlock(text, marker) !== undefined) left.push(marker);
      continue;
    }
    if (young === block) continue;
    changed.push(marker);
    const [head, tail] = [text.slice(0, at), text.slice(at + block.length)];
    text = young === undefined ? joinAround(head, tail, markers) : head + young + tail;
  }
  return { text, changed, left };
}

/** Takes one of the two empty lines, where a block stood between others of its plugin or behind them. */
function joinAround(head: string, tail: string, markers: readonly string[]): string {
  const isBefore = markers.some((marker) => tail.startsWith(`${BETWEEN}${marker}\n`));
  if (isBefore) return head + tail.slice(BETWEEN.length);
  const isBehind = head.endsWith(BETWEEN) && markers.some((marker) => findBlock(head, marker) !== undefined);
  return (isBehind ? head.slice(0, -1) : head) + tail.slice(1);
}

/** Whole lines only. */
function findBlock(text: string, block: string): number | undefined {
  for (let at = text.indexOf(block); at >= 0; at = text.indexOf(block, at + 1)) {
    const end = at + block.length;
    if ((at === 0 || text[at - 1] === '\n') && (end === text.length || text[end] === '\n')) return at;
  }
  return undefined;
}

function joined(blocks: readonly MemoryBlock[]): string {
  return blocks.map(({ text }) => text).join(BETWEEN);
}
