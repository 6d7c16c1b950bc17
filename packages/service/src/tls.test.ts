import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { createServer, type TLSSocket, connect as tlsConnect } from 'node:tls';
import { type TestIdentity, testCa } from '@keylime/testing/test-certificates';
import { ANONYMOUS, clientIdentity, serverTlsOptions } from './tls.ts';

const ca = await testCa();
const server = await ca.issue({ commonNames: ['server'], purpose: 'serverAuth', names: ['127.0.0.1'] });
const options = serverTlsOptions({ certPem: server.certPem, keyPem: server.keyPem, clientCaPems: [ca.certPem] });

/** The server's side of a connection from a client with this certificate, whatever that is worth. */
async function accepted(t: TestContext, client: TestIdentity): Promise<TLSSocket> {
  const listener = createServer(options);
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const other = tlsConnect({ host: '127.0.0.1', port, ca: ca.certPem, cert: client.certPem, key: client.keyPem });
  other.on('error', () => {});
  t.after(() => {
    other.destroy();
    listener.close();
  });
  const [socket] = (await once(listener, 'secureConnection')) as [TLSSocket];
  return socket;
}

test('TLS below 1.2 is not offered', () => {
  assert.equal(options.minVersion, 'TLSv1.2');
});

test('a certificate that did not verify is nobody, even where the connection was not closed', async (t) => {
  const foreign = await (await testCa('Foreign CA')).issue({ commonNames: ['client'], purpose: 'clientAuth' });
  const socket = await accepted(t, foreign);
  assert.equal(socket.authorized, false);
  assert.deepEqual(clientIdentity(socket), ANONYMOUS);
});

test('a certificate for client authentication that verified is an administrator', async (t) => {
  const socket = await accepted(t, await ca.issue({ commonNames: ['alice'], purpose: 'clientAuth' }));
  assert.deepEqual(clientIdentity(socket), { kind: 'admin', name: 'alice' });
});

test('without extended key usage only the listed names are administrators', async (t) => {
  const socket = await accepted(t, await ca.issue({ commonNames: ['alice'] }));
  assert.deepEqual(clientIdentity(socket), ANONYMOUS);
  assert.deepEqual(clientIdentity(socket, ['bob', 'alice']), { kind: 'admin', name: 'alice' });
});

test('a connection without TLS is nobody', () => {
  assert.deepEqual(clientIdentity(new Socket()), ANONYMOUS);
});
