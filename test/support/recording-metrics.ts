import type { Metrics } from '../../src/ports/metrics.ts';

export interface MetricCall {
  readonly method: keyof Metrics;
  readonly args: readonly unknown[];
}

export interface RecordingMetrics extends Metrics {
  readonly calls: readonly MetricCall[];
  /** The arguments of every call of one method, in order. */
  argsOf(method: keyof Metrics): readonly (readonly unknown[])[];
}

/** Keeps every call and computes nothing. A proxy, so that a new method of the port needs no line here. */
export function recordingMetrics(): RecordingMetrics {
  const calls: MetricCall[] = [];
  const own = {
    calls,
    argsOf: (method: keyof Metrics) => calls.filter((call) => call.method === method).map((call) => call.args),
  };
  return new Proxy(own, {
    get(target, property) {
      if (property in target) return target[property as keyof typeof own];
      return (...args: unknown[]) => void calls.push({ method: property as keyof Metrics, args });
    },
  }) as unknown as RecordingMetrics;
}
