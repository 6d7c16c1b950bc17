import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { testAgentIdentity } from '@keylime/testing/test-certificates';
import { findUrl, openUrl, saveUrl } from './http-files.ts';
import { folder } from './tool.fixture.ts';
import { ToolError } from './tool-error.ts';

async function serve(t: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/file`;
}

const fails = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof ToolError && error.code === code, String(error));
  assert.match(error.message, message);
  return true;
};

test('what is not there is undefined, what a server refuses is a failure', async (t) => {
  let status = 404;
  const url = await serve(t, (_, response) => response.writeHead(status).end('no'));
  assert.equal(await findUrl(url, 10), undefined);
  assert.equal(await openUrl(url), undefined);
  await assert.rejects(saveUrl(url, path.join(folder(t), 'x')), fails('download_failed', /no such file/));
  status = 403;
  await assert.rejects(findUrl(url, 10), fails('download_failed', /the server answered 403/));
});

test('a server that is busy or hangs up is asked again, and is given up after the third time', async (t) => {
  let count = 0;
  let isDown = false;
  const url = await serve(t, (request, response) => {
    count++;
    if (count === 1) request.socket.resetAndDestroy();
    else if (count === 2 || isDown) response.writeHead(503).end('busy');
    else response.end('content');
  });
  assert.equal((await findUrl(url, 10))?.toString(), 'content');
  assert.equal(count, 3);
  [count, isDown] = [2, true];
  await assert.rejects(findUrl(url, 10), fails('download_failed', /the server answered 503/));
  assert.equal(count, 5);
});

test('a server whose certificate is by an unknown CA is refused at once, with what to do', async (t) => {
  const { certPem: cert, keyPem: key } = await testAgentIdentity('server');
  const server = createSecureServer({ cert, key }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/file`;
  await assert.rejects(findUrl(url, 10), fails('download_failed', /by no CA that is known: .* NODE_EXTRA_CA_CERTS/));
});

test('a download that ends early is tried again, and in the end it is a failure, not a shorter file', async (t) => {
  let complete = 2;
  const url = await serve(t, (_, response) => {
    response.writeHead(200, { 'content-length': 7 });
    if (complete-- === 0) response.end('content');
    else response.write('con', () => response.destroy());
  });
  const file = path.join(folder(t), 'x');
  await saveUrl(url, file);
  assert.equal(readFileSync(file, 'utf8'), 'content');
  await assert.rejects(saveUrl(url, `${file}y`), fails('download_failed', /file failed/));
  assert.ok(!existsSync(`${file}y`));
  const reading = async () => {
    for await (const _ of (await openUrl(url)) ?? []);
  };
  await assert.rejects(reading(), fails('download_failed', /file failed/));
});

test('no more than the limit is read, however much is sent', async (t) => {
  const url = await serve(t, (_, response) => {
    const timer = setInterval(() => response.write('x'.repeat(1000)), 1);
    response.on('close', () => clearInterval(timer));
  });
  await assert.rejects(findUrl(url, 5000), fails('download_failed', /larger than 5000 bytes/));
});

test('a file that is there is not written over', async (t) => {
  const url = await serve(t, (_, response) => response.end('content'));
  const file = path.join(folder(t), 'x');
  await saveUrl(url, file);
  assert.equal(readFileSync(file, 'utf8'), 'content');
  writeFileSync(file, 'mine');
  await assert.rejects(saveUrl(url, file), fails('file_unwritable', /Cannot write/));
  assert.equal(readFileSync(file, 'utf8'), 'mine');
});
