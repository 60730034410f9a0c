// What OpenSSH reaches an instance with (`ProxyCommand node proxy-command.mjs URL`): the presigned tunnel as stdin and stdout.
import { pipeline } from 'node:stream/promises';

import { WebSocket, createWebSocketStream } from 'ws';

const LARGEST_MESSAGE = 65_000;

const [, , url = ''] = process.argv;
const webSocket = new WebSocket(url, { perMessageDeflate: false });
webSocket.on('unexpected-response', (_request, response) => {
  console.error(`the tunnel was refused with HTTP ${response.statusCode}`);
  process.exit(1);
});
webSocket.on('close', (code, reason) => {
  if (code !== 1000 && code !== 1005) console.error(`the tunnel was closed with ${code} ${reason.toString()}`);
});
const tunnel = createWebSocketStream(webSocket, { readableHighWaterMark: LARGEST_MESSAGE });

async function* messages(source) {
  for await (const chunk of source) {
    for (let start = 0; start < chunk.length; start += LARGEST_MESSAGE) {
      yield chunk.subarray(start, start + LARGEST_MESSAGE);
    }
  }
}

// It fails, or waits for more, when the tunnel has ended; that is told below.
pipeline(process.stdin, messages, tunnel).catch(() => undefined);
try {
  await pipeline(tunnel, process.stdout);
} catch (error) {
  console.error(String(error.message));
}
// ssh goes by this end of the pipe, which stays open for as long as there is a process.
process.exit();
