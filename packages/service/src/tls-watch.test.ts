import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { connect } from 'node:tls';
import { testCa } from '@keylime/testing/test-certificates';
import { listenOn } from './http-listen.ts';
import { buildHttpServer } from './http-server.ts';
import { openLog } from './log.ts';
import { changeServerTls, type ServerTls } from './tls.ts';
import { watchTls } from './tls-watch.ts';

const ca = await testCa();
const issue = () => ca.issue({ commonNames: ['server'], purpose: 'serverAuth', names: ['127.0.0.1'] });
const DAY_MS = 86_400_000;

async function openService(t: TestContext) {
  const dir = mkdtempSync(path.join(tmpdir(), 'keylime-watch-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const files = { cert: path.join(dir, 'cert'), key: path.join(dir, 'key') };
  const write = async () => {
    const { certPem, keyPem } = await issue();
    writeFileSync(files.cert, certPem);
    writeFileSync(files.key, keyPem);
    return certPem;
  };
  const load = async (): Promise<ServerTls> => ({
    certPem: readFileSync(files.cert, 'utf8'),
    keyPem: readFileSync(files.key, 'utf8'),
    clientCaPems: [ca.certPem],
  });
  const first = await write();
  const lines: string[] = [];
  const log = openLog({ name: 'test', destination: { write: (line) => lines.push(line) } });
  const current = await load();
  const app = buildHttpServer({ log, tls: current, bodyLimitBytes: 1024, authorization: 'none' });
  const { port } = await listenOn(app, { host: '127.0.0.1', port: 0 });
  t.after(() => app.close());
  let clock = Date.now();
  let renewals = 0;
  const watch = watchTls({
    current,
    files: Object.values(files),
    load,
    apply: (fresh) => changeServerTls(app.server as unknown as Server, fresh),
    renew: async () => {
      renewals += 1;
      await write();
    },
    shown: ({ certPem }) => [certPem],
    log,
    now: () => clock,
  });
  t.after(() => watch.close());
  return {
    watch,
    write,
    files,
    lines,
    first,
    renewals: () => renewals,
    advance: (days: number) => {
      clock += days * DAY_MS;
    },
    /** PEM of the certificate that a new connection sees. */
    shown: () =>
      new Promise<string>((resolve, reject) => {
        const socket = connect({ host: '127.0.0.1', port, ca: ca.certPem }, () => {
          resolve(socket.getPeerX509Certificate()?.toString() ?? '');
          socket.destroy();
        });
        socket.once('error', reject);
      }),
  };
}

const same = (one: string, other: string) => one.replace(/\s/g, '') === other.replace(/\s/g, '');

test('a certificate that was replaced is shown without a restart', async (t) => {
  const service = await openService(t);
  await service.watch.check();
  assert.ok(same(await service.shown(), service.first));
  const next = await service.write();
  await service.watch.check();
  assert.ok(same(await service.shown(), next));
  assert.equal(service.lines.filter((line) => line.includes('are in use now')).length, 1);
});

test('files that do not fit together leave the old certificate in use, and are used once they do', async (t) => {
  const service = await openService(t);
  const { certPem, keyPem } = await issue();
  writeFileSync(service.files.cert, certPem);
  await service.watch.check();
  await service.watch.check();
  assert.ok(same(await service.shown(), service.first));
  assert.equal(service.lines.filter((line) => line.includes('those from before stay in use')).length, 1);
  writeFileSync(service.files.key, keyPem);
  await service.watch.check();
  assert.ok(same(await service.shown(), certPem));
});

test('what was renewed is in use at once', async (t) => {
  const service = await openService(t);
  await service.watch.renew();
  assert.equal(service.renewals(), 1);
  assert.ok(!same(await service.shown(), service.first));
});

test('a certificate that nobody renews is warned of once a day, and told when it has ended', async (t) => {
  const service = await openService(t);
  await service.watch.check();
  assert.ok(!service.lines.some((line) => line.includes('ends soon')));
  service.advance(3650);
  await service.watch.check();
  await service.watch.check();
  assert.equal(service.lines.filter((line) => line.includes('A certificate has ended')).length, 1);
  service.advance(1);
  await service.watch.check();
  assert.equal(service.lines.filter((line) => line.includes('A certificate has ended')).length, 2);
});
