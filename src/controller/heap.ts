/** Binary heap that can also take out an item from the middle, so that nothing stale has to wait for its turn to go. */
export class Heap<T extends object> {
  readonly #items: T[] = [];
  readonly #positions = new Map<T, number>();
  readonly #isBefore: (a: T, b: T) => boolean;

  constructor(isBefore: (a: T, b: T) => boolean) {
    this.#isBefore = isBefore;
  }

  get size(): number {
    return this.#items.length;
  }

  /** The first item, left in place. */
  peek(): T | undefined {
    return this.#items[0];
  }

  /** Each item is held once; what orders it must not change while it is in here. */
  push(item: T): void {
    this.#place(item, this.#items.length);
    this.#rise(this.#items.length - 1);
  }

  pop(): T | undefined {
    const first = this.#items[0];
    if (first !== undefined) this.remove(first);
    return first;
  }

  remove(item: T): void {
    const position = this.#positions.get(item);
    if (position === undefined) return;
    this.#positions.delete(item);
    const last = this.#items.pop();
    if (last === undefined || last === item) return;
    this.#place(last, position);
    this.#rise(position);
    this.#sink(position);
  }

  #rise(from: number): void {
    let position = from;
    while (position > 0) {
      const parent = (position - 1) >> 1;
      if (!this.#swapIfBefore(position, parent)) return;
      position = parent;
    }
  }

  #sink(from: number): void {
    let position = from;
    for (;;) {
      const left = 2 * position + 1;
      const right = left + 1;
      let first = left;
      if (right < this.#items.length && this.#isBefore(this.#at(right), this.#at(left))) first = right;
      if (first >= this.#items.length || !this.#swapIfBefore(first, position)) return;
      position = first;
    }
  }

  #swapIfBefore(lower: number, upper: number): boolean {
    const below = this.#at(lower);
    const above = this.#at(upper);
    if (!this.#isBefore(below, above)) return false;
    this.#place(below, upper);
    this.#place(above, lower);
    return true;
  }

  #place(item: T, position: number): void {
    this.#items[position] = item;
    this.#positions.set(item, position);
  }

  #at(position: number): T {
    return this.#items[position] as T;
  }
}
