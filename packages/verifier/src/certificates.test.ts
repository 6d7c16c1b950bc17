import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { connect } from 'node:tls';
import { revokeName } from '@keylime/pki/revocation';
import { loadCaConfig, loadVerifierConfig } from '@keylime/service/config';
import { openLog } from '@keylime/service/log';
import { startVerifier } from './start.ts';

test('a verifier renews the certificates that it made and uses them, and takes the CA from the settings', async (t) => {
  const workDir = await mkdtemp(path.join(tmpdir(), 'keylime-renewal-'));
  t.after(() => rm(workDir, { recursive: true }));
  const env = {
    KEYLIME_DIR: workDir,
    KEYLIME_VERIFIER_IP: '127.0.0.1',
    KEYLIME_CA_CERT_ORGANIZATION: 'Example',
    KEYLIME_CA_PASSWORD: 'not the default',
  };
  const source = { env, roots: { etc: workDir, usrEtc: workDir } };
  const lines: string[] = [];
  const log = openLog({ name: 'test', destination: { write: (line) => lines.push(line) } });
  const { config } = loadVerifierConfig(source);
  const verifier = await startVerifier({ ...config, port: 0 }, loadCaConfig(source).config, log);
  t.after(() => verifier.close());
  const dir = path.join(workDir, 'cv_ca');
  const ca = await readFile(path.join(dir, 'cacert.crt'), 'utf8');
  const shown = async () => {
    const socket = connect({ host: '127.0.0.1', port: verifier.address.port, ca });
    await once(socket, 'secureConnect');
    const certificate = socket.getPeerX509Certificate();
    socket.destroy();
    return certificate;
  };
  const first = await shown();
  assert.match(first?.subject ?? '', /O=Example/);
  assert.equal(first?.serialNumber, '02');
  const folder = { dir, password: 'not the default' };
  await revokeName(folder, 'server');
  await revokeName(folder, 'client');
  await verifier.certificates.renew();
  assert.equal((await shown())?.serialNumber, '04');
  assert.ok(lines.some((line) => line.includes('Certificates have changed and are in use now')));
  assert.ok(!lines.some((line) => / - (ERROR|CRITICAL) - /.test(line)), lines.join(''));
});
