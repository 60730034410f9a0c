import { setTimeout as pause } from 'node:timers/promises';

/**
 * Runs `check` again and again until it no longer throws, and answers what it answered. After `deadlineMs` the last
 * failure is thrown, so that the report says what was still wrong. For what happens in another process or in a kernel
 * and sends no event that a test could await. It says nothing of how fast: a busy machine may take most of the deadline.
 */
export async function eventually<T>(check: () => T | Promise<T>, deadlineMs = 120_000): Promise<T> {
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await pause(10);
    }
  }
}
