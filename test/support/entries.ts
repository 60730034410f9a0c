import type { ParsedSource, PluginSource, SourceEntry } from '../../src/ports/plugin-source.ts';

export function fileEntry(path: string, content: string | Uint8Array = path, executable = false): SourceEntry {
  const bytes = Buffer.from(content);
  return { kind: 'file', path, executable, size: bytes.byteLength, content: chunks(bytes) };
}

export function linkEntry(path: string, target: string): SourceEntry {
  return { kind: 'link', path, target };
}

export async function* stream<T>(items: Iterable<T>): AsyncGenerator<T> {
  for (const item of items) yield await Promise.resolve(item);
}

async function* chunks(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += 1000) yield await Promise.resolve(bytes.subarray(at, at + 1000));
}

/** A source text of a scheme that exists only in tests. */
export function parsedSource(name: string): ParsedSource {
  const ref = { scheme: 'test', spec: name, text: `test://${name}` };
  return { ref, group: 'test', selector: name, subPath: name, pinned: false };
}

/** What a `fetch` handed over, contents included. */
export async function collect(entries: ReturnType<PluginSource['fetch']>): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const entry of entries) {
    if (entry.kind === 'link') found[entry.path] = `-> ${entry.target}`;
    else if (entry.kind === 'other') found[entry.path] = `! ${entry.what}`;
    else {
      const content = await text(entry.content);
      if (Buffer.byteLength(content, 'latin1') !== entry.size) throw new Error(`${entry.path}: size differs`);
      found[entry.path] = `${entry.executable ? 'x ' : ''}${Buffer.from(content, 'latin1').toString()}`;
    }
  }
  return found;
}

/** Bytes as latin1, so that every byte is one character. */
export async function text(content: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of content) parts.push(Buffer.from(part));
  return Buffer.concat(parts).toString('latin1');
}
