/** How many signals that `AbortSignal.any` made of this one Node keeps a note of, for as long as it lives. */
export function dependantsOf(signal: AbortSignal): number {
  const name = Object.getOwnPropertySymbols(signal).find(({ description }) => description === 'kDependantSignals');
  const kept = name === undefined ? undefined : (signal as unknown as Record<symbol, { readonly size?: number }>)[name];
  return kept?.size ?? 0;
}
