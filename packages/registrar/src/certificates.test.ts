import assert from 'node:assert/strict';
import { once } from 'node:events';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { connect, type TLSSocket } from 'node:tls';
import { ensureCa } from '@keylime/pki/ca-folder';
import { revokeName } from '@keylime/pki/revocation';
import { loadCaConfig, loadRegistrarConfig } from '@keylime/service/config';
import { openLog } from '@keylime/service/log';
import { startRegistrar } from './start.ts';

test('a registrar renews its own certificate and shows the new one, while old connections go on', async (t) => {
  const workDir = await mkdtemp(path.join(tmpdir(), 'keylime-renewal-'));
  t.after(() => rm(workDir, { recursive: true }));
  const dir = path.join(workDir, 'reg_ca');
  const { certificatePem } = await ensureCa({ dir });
  await cp(dir, path.join(workDir, 'cv_ca'), { recursive: true });
  const env = { KEYLIME_DIR: workDir, KEYLIME_REGISTRAR_TLS_DIR: 'generate', KEYLIME_REGISTRAR_IP: '127.0.0.1' };
  const source = { env, roots: { etc: workDir, usrEtc: workDir } };
  const log = openLog({ name: 'test', destination: { write: () => true } });
  const { config } = loadRegistrarConfig(source);
  const registrar = await startRegistrar({ ...config, port: 0, tls_port: 0 }, loadCaConfig(source).config, log);
  t.after(() => registrar.close());
  const open = async (): Promise<TLSSocket> => {
    const socket = connect({ host: '127.0.0.1', port: registrar.tls.port, ca: certificatePem });
    await once(socket, 'secureConnect');
    return socket;
  };
  const old = await open();
  assert.equal(old.getPeerX509Certificate()?.serialNumber, '02');
  // A certificate that does not hold any more is renewed as one is that grew old.
  await revokeName({ dir }, 'server');
  await registrar.certificates.renew();
  const fresh = await open();
  assert.equal(fresh.getPeerX509Certificate()?.serialNumber, '03');
  old.write('GET /version HTTP/1.1\r\nhost: localhost\r\n\r\n');
  const [answer] = await once(old, 'data');
  // Before the registrar is closed, which waits for its peers.
  for (const socket of [old, fresh]) socket.destroy();
  assert.match(String(answer), /^HTTP\/1\.1 200 /);
});
