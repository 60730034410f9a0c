import { afterEach, describe, expect, test } from 'vitest';

/** What a contract asks of every implementation, by title. */
export type Cases<Context> = Readonly<Record<string, (context: Context) => Promise<void>>>;

/** Titles of cases that an implementation cannot have, each with the reason. */
export type Unsupported = Readonly<Record<string, string>>;

/** Has something done when the case is over, however it ended; the newest first. */
export type Later = (cleanup: () => unknown) => void;

/** Makes a test of each case, in a context of its own. A title in `unsupported` that no case has is a failure. */
export function describeCases<Context>(
  name: string,
  cases: Cases<Context>,
  unsupported: Unsupported | undefined,
  prepare: (later: Later, title: string) => Promise<Context>,
): void {
  describe(name, () => {
    const cleanups: (() => unknown)[] = [];
    afterEach(async () => {
      for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
    });

    for (const [title, run] of Object.entries(cases)) {
      const reason = unsupported?.[title];
      if (reason !== undefined) test(title, ({ skip }) => skip(reason));
      else test(title, async () => run(await prepare((cleanup) => cleanups.push(cleanup), title)));
    }

    test('every unsupported case is a case of this suite', () => {
      expect(Object.keys(unsupported ?? {}).filter((title) => !(title in cases))).toEqual([]);
    });
  });
}
