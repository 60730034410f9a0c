/**
 * Failures in a row of something that is tried again and again. One that says what the one before it said is no news: a
 * cause that lasts for hours would fill the log.
 */
export class FailureRow {
  #last: string | undefined;

  /** Notes a failure, and tells whether it is another than the one before. */
  isNews(failure: unknown): boolean {
    const text = failure instanceof Error ? `${failure.name}: ${failure.message}` : typeof failure;
    const isNews = text !== this.#last;
    this.#last = text;
    return isNews;
  }

  /** It went well, or well for long enough: whatever fails next is news. */
  end(): void {
    this.#last = undefined;
  }
}
