import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { issue } from '@keylime/tenant/testing/certificates';
import { AGENT, machine, openScene, type Scene } from '@keylime/tenant/testing/scene';

/*
 * Hole 5, seen by the tenant: somebody in the path answers for verifier, registrar or agent with a certificate of another
 * CA, of the system's CAs, or of the right CA but another holder. The existing tenant believes the last two.
 */
const strangers = issue({ commonName: 'Public Trust Root', ca: true });
const names = 'DNS:localhost,IP:127.0.0.1';
const foreign = issue({ commonName: 'server', issuer: strangers, names, usage: 'serverAuth' });

/** The refusal, and that nobody got a request beyond the handshake. */
async function refuses(scene: Scene, who: 'verifier' | 'registrar' | 'agent', reason: RegExp): Promise<void> {
  const outcome = await scene.tenant(['-c', 'add', '-u', AGENT]);
  assert.equal(outcome.code, 1, outcome.stdout);
  assert.match(outcome.messages.at(-1) ?? '', new RegExp(`^ERROR - Cannot trust ${who} `));
  assert.match(outcome.messages.at(-1) ?? '', reason);
  assert.deepEqual(scene[who].seen, []);
  assert.deepEqual(scene.changes(), []);
}

test('[MUST] a registrar with a certificate of another CA gets no request', async (t) => {
  await refuses(
    await openScene(t, { certificates: { registrar: foreign } }),
    'registrar',
    /not issued by a CA that is trusted/,
  );
});

test('[MUST] a verifier with a certificate of another CA gets no agent', async (t) => {
  await refuses(
    await openScene(t, { certificates: { verifier: foreign } }),
    'verifier',
    /not issued by a CA that is trusted/,
  );
});

test('[MUST] a registrar with a certificate of the right CA for another host gets no request', async (t) => {
  const { ca } = await openScene(t).then(({ lab }) => lab);
  const elsewhere = issue({ commonName: 'server', issuer: ca, names: 'DNS:elsewhere.example', usage: 'serverAuth' });
  await refuses(await openScene(t, { certificates: { registrar: elsewhere } }), 'registrar', /for other names/);
});

test('[MUST] a client certificate of the right CA does not make a verifier', async (t) => {
  const { ca } = await openScene(t).then(({ lab }) => lab);
  const client = issue({ commonName: 'client', issuer: ca, names, usage: 'clientAuth' });
  await refuses(await openScene(t, { certificates: { verifier: client } }), 'verifier', /./);
});

test('[MUST] an agent with another certificate than the registered one gets no request: not of the same CA, not self-signed, not of the same name', async (t) => {
  const { ca } = await openScene(t).then(({ lab }) => lab);
  for (const agent of [
    issue({ commonName: AGENT, issuer: ca, names }),
    issue({ commonName: AGENT, names }),
    foreign,
    issue({ commonName: AGENT, issuer: machine().tls, names }),
  ]) {
    await refuses(await openScene(t, { certificates: { agent } }), 'agent', /./);
  }
});

test('[MUST] a CA of the system is not believed: neither from its store nor from NODE_EXTRA_CA_CERTS', async (t) => {
  const scene = await openScene(t, { certificates: { verifier: foreign } });
  const { workDir } = scene.lab;
  writeFileSync(path.join(workDir, 'system.pem'), strangers.certificate);
  const program = fileURLToPath(new URL('../../packages/tenant/bin/keylime_tenant.mjs', import.meta.url));
  const child = spawn(
    process.execPath,
    ['--use-openssl-ca', program, '-c', 'cvlist', '-vp', String(scene.verifier.port)],
    {
      env: {
        PATH: process.env.PATH,
        KEYLIME_DIR: workDir,
        NODE_EXTRA_CA_CERTS: path.join(workDir, 'system.pem'),
        SSL_CERT_FILE: path.join(workDir, 'system.pem'),
        NODE_TLS_REJECT_UNAUTHORIZED: '0',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  const output: Buffer[] = [];
  child.stdout.on('data', (part: Buffer) => output.push(part));
  const code = await new Promise((resolve) => child.once('close', resolve));
  assert.equal(code, 1);
  assert.match(Buffer.concat(output).toString(), /ERROR - Cannot trust verifier .*not issued by a CA that is trusted/);
  assert.deepEqual(scene.verifier.seen, []);
});

test('[MUST] without a client certificate the registrar is not asked at all', async (t) => {
  const scene = await openScene(t);
  const outcome = await scene.tenant(['-c', 'add', '-u', AGENT], { client_cert: 'absent.crt' });
  assert.equal(outcome.code, 1);
  assert.match(outcome.messages.at(-1) ?? '', /Cannot read the client certificate/);
  assert.deepEqual(scene.registrar.seen, []);
});
