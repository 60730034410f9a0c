/**
 * Says which turn of which controller a write belongs to. Written on the target before the first change and compared
 * there, because a lease can be outlived by a frozen process, and only the target sees both writers.
 */
export interface Fence {
  /** Who the controller is: one id per store, in the grammar of names. Another one is refused as `ForeignOwner`. */
  readonly authority: string;
  /** The life of its lease (creation time, Unix milliseconds): a newer one wins over any `n`. */
  readonly epoch: number;
  /** The turn within that life; a lower one is refused as `StaleFence`. */
  readonly n: number;
}

/** What of a fence rises within one authority. */
export type Turn = Pick<Fence, 'epoch' | 'n'>;

export function isLaterTurn(turn: Turn, than: Turn): boolean {
  return turn.epoch === than.epoch ? turn.n > than.n : turn.epoch > than.epoch;
}

/** `undefined` for anything but two plain integers of at most 15 digits after an authority: such a fence fails closed. */
export function parseFence(text: string): Fence | undefined {
  const match = /^([a-z0-9][a-z0-9._-]{0,127}) (\d{1,15}) (\d{1,15})$/.exec(text);
  if (match?.[1] === undefined) return undefined;
  return { authority: match[1], epoch: Number(match[2]), n: Number(match[3]) };
}
