import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { LocalSecrets } from '../../src/adapters/system/local-secrets.ts';
import { DirectoryTargetProvider } from '../../src/adapters/directory/directory-target-provider.ts';
import { LocalSource } from '../../src/adapters/local/local-source.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { DiskScratchSpace } from '../../src/adapters/system/disk-scratch-space.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import { ArtifactCache } from '../../src/plugins/artifact-cache.ts';
import { ScriptedPluginHost } from '../../src/plugins/plugin-host.ts';
import { SourceRegistry } from '../../src/reconcile/source-registry.ts';
import type { PassPorts } from '../../src/workshop.ts';
import { MemoryStoreBackend, MemoryWorkspaceStore } from './memory-store.ts';
import { MemoryControllerState } from './memory-state.ts';
import { RecordingLogger } from './recording-logger.ts';
import { recordingMetrics, type RecordingMetrics } from './recording-metrics.ts';
import { tempDir } from './temp-dir.ts';

/** Everything passes work with: real directories, scripts and packer, below a temporary directory; the store is a fake. */
export interface SmallWorld {
  readonly ports: PassPorts;
  readonly backend: MemoryStoreBackend;
  readonly logger: RecordingLogger;
  readonly metrics: RecordingMetrics;
  /** Local plugins are published in `registry`; workspaces are directories below `root`. */
  readonly dirs: Readonly<Record<'registry' | 'root', string>>;
  close(): Promise<void>;
}

export async function createSmallWorld(): Promise<SmallWorld> {
  const base = await tempDir();
  const dirs = { registry: join(base, 'registry'), root: join(base, 'root') };
  for (const dir of Object.values(dirs)) await mkdir(dir);
  const clock = new SystemClock();
  const logger = new RecordingLogger();
  const metrics = recordingMetrics();
  const registry = new SourceRegistry([new LocalSource({ dirs: [dirs.registry], clock })]);
  const artifacts = await ArtifactCache.open({
    dir: join(base, 'cache'),
    scratch: await DiskScratchSpace.open(join(base, 'cache/scratch'), clock),
    fetch: (source, revision, signal) => registry.sourceOf(source.ref.scheme).fetch(source, revision, signal),
    clock,
    logger,
    metrics,
  });
  const backend = new MemoryStoreBackend(clock);
  const ports: PassPorts = {
    store: new MemoryWorkspaceStore(backend),
    state: new MemoryControllerState(),
    providers: [new DirectoryTargetProvider({ roots: [{ path: dirs.root }], path: process.env['PATH'] ?? '', clock })],
    host: new ScriptedPluginHost(),
    registry,
    artifacts,
    secrets: new LocalSecrets([{ env: 'A_SECRET' }], { A_SECRET: 'hush' }),
    profiles: BUILT_IN_PROFILES,
    clock,
    logger,
    metrics,
  };
  return { ports, backend, logger, metrics, dirs, close: () => artifacts.close() };
}
