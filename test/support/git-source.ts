import { GitSource, type GitSourceOptions } from '../../src/adapters/git/git-source.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { DiskScratchSpace } from '../../src/adapters/system/disk-scratch-space.ts';
import { everythingIn, tempDir } from './temp-dir.ts';

export interface TestGitSource {
  readonly source: GitSource;
  /** For repositories and files of the test. */
  readonly dir: string;
  leftovers(): Promise<readonly string[]>;
}

/** A source with room of its own, that may talk to this machine; ends with the running test. */
export async function testGitSource(
  options: Partial<GitSourceOptions> | ((dir: string) => Partial<GitSourceOptions>) = {},
): Promise<TestGitSource> {
  const dir = await tempDir();
  const scratch = await tempDir();
  const clock = new SystemClock();
  const source = new GitSource({
    clock,
    scratch: await DiskScratchSpace.open(scratch, clock),
    path: process.env['PATH'] ?? '/usr/bin:/bin',
    githubBaseUrl: 'https://github.com',
    fileRoots: [dir],
    allowHttp: true,
    allowUnpinned: false,
    allowLoopback: true,
    credentialFiles: [],
    ...(typeof options === 'function' ? options(dir) : options),
  });
  return { source, dir, leftovers: () => everythingIn(scratch) };
}
