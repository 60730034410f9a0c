import { describe, expect, it } from 'vitest';

import { PinoLogger } from '../../../src/adapters/telemetry/pino-logger.ts';
import { formatLogLine } from '../../../src/cli/log-line.ts';
import { plainPaint } from '../../../src/cli/style.ts';
import { transient } from '../../../src/domain/errors.ts';

describe('formatLogLine', () => {
  it('turns the lines of the log into lines for a person', () => {
    const lines: string[] = [];
    const logger = PinoLogger.create({
      level: 'debug',
      destination: { write: (line) => void lines.push(formatLogLine(line, plainPaint)) },
    });
    logger.warn('bad.yaml:2:1: no YAML', { directory: '/srv/decl' });
    logger
      .with({ workspace: 'default/alice' })
      .error('pass failed', { error: transient('DiskFull', 'no\nspace'), n: 3 });
    logger.debug('done');
    expect(lines).toEqual([
      'warning: bad.yaml:2:1: no YAML (directory=/srv/decl)\n',
      'error: pass failed: no space (workspace=default/alice, n=3)\n',
      'debug: done\n',
    ]);
  });
});
