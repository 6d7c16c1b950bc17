import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

/** Below Linux's range of ports for outgoing connections, so that none of those takes a port before it is listened on. */
const FIRST = 15_000;
const END = 32_000;

/** A port of 127.0.0.1 that was free a moment ago, for programs that must be told one: trials and tests. */
export async function freePort(): Promise<number> {
  for (;;) {
    const server = createServer();
    try {
      server.listen(randomInt(FIRST, END), '127.0.0.1');
      await once(server, 'listening');
      const address = server.address();
      if (typeof address === 'object' && address !== null) return address.port;
    } catch {
      // taken: try another one
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  }
}
