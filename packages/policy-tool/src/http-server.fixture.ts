import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import type { TestContext } from 'node:test';

export type ServedRequest = { readonly url: string; readonly range: string | undefined };

/**
 * Serves the files of a directory on this machine, ranges of them if asked, until the test ends. It hangs up in the middle of
 * those whose path is like `cut`.
 */
export async function serveFiles(
  t: TestContext,
  directory: string,
  { cut }: { readonly cut?: RegExp } = {},
): Promise<{ readonly url: string; readonly requests: readonly ServedRequest[] }> {
  const requests: ServedRequest[] = [];
  const server = createServer((request, response) => {
    const { range } = request.headers;
    requests.push({ url: request.url ?? '', range });
    const file = path.join(directory, decodeURIComponent(request.url ?? ''));
    const isFile = statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;
    if (!isFile) return void response.writeHead(404).end();
    const content = readFileSync(file);
    if (cut?.test(file)) {
      response.writeHead(200, { 'content-length': content.length });
      return void response.write(content.subarray(0, 100), () => response.destroy());
    }
    const end = Number(/^bytes=0-(\d+)$/.exec(range ?? '')?.[1] ?? Number.NaN);
    if (Number.isNaN(end)) response.end(content);
    else response.writeHead(206).end(content.subarray(0, end + 1));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests };
}
