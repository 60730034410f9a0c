/** What has to be undone at the end, last first. */
export class Undo {
  readonly #steps: (() => Promise<void>)[] = [];

  later(step: () => Promise<void>): void {
    this.#steps.push(step);
  }

  /** Goes on after a step that failed. */
  async run(): Promise<void> {
    if (this.#steps.length === 0) return;
    console.log('\nStopping everything that was started…');
    let end = 'Nothing is left running.';
    for (const step of this.#steps.splice(0).toReversed()) {
      await step().catch((error: unknown) => {
        end = 'Something may be left; the next npm start takes care of it.';
        console.error(messageOf(error));
      });
    }
    console.log(end);
  }
}

export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : '';
  return `${error.message}${cause}`;
}
