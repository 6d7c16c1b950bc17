import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect } from 'node:tls';
import { ensureAgentCertificate } from '@keylime/pki/agent-certificate';
import type { Attester } from '@keylime/up/attester';
import { enrol } from '@keylime/up/story';
import { startTrial } from '@keylime/up/trial';
import { until } from '@keylime/up/until';

const DAY_MS = 86_400_000;
/** Between the start of the agent and the time at which its certificate is to be renewed. */
const SOON_MS = 6_000;

test('an agent is attested on when its certificate was made anew before a start, and when it is renewed while it runs', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'keylime-renewal-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  await using trial = await startTrial({ folder, quoteIntervalSeconds: 0.25, machines: ['alpha'], say: () => {} });
  const [alpha] = trial.attesters;
  assert(alpha);
  await enrol(trial, alpha);
  const file = join(alpha.keylimeDir, 'server-cert.crt');
  const enrolled = readFileSync(file, 'utf8');

  // The operator has the certificate made anew, and the clock was such that it is soon to be renewed.
  rmSync(file);
  const { leafPem: second } = await ensureAgentCertificate({
    certificatePath: file,
    keyPath: join(alpha.keylimeDir, 'server-private.pem'),
    agentId: alpha.id,
    now: new Date(Date.now() - 335 * DAY_MS + SOON_MS),
  });
  await alpha.reboot({});
  await passes(alpha);
  const { port } = (await alpha.status()) as { readonly port: number };
  assert.equal(await shownAt(port), fingerprint(second));

  const third = await until(
    async () => {
      const now = readFileSync(file, 'utf8');
      return now === second ? undefined : now;
    },
    'the certificate to be renewed',
    { broken: trial.broken },
  );
  await until(
    async () => (await shownAt(port)) === fingerprint(third) || undefined,
    'the new certificate to be shown',
    {
      broken: trial.broken,
    },
  );
  // The verifier goes on over the connection that it has; when it makes another, it finds the certificate there:
  const record = await trial.site.operator.read('registrar', `/v2.6/agents/${alpha.id}`);
  assert.equal(fingerprint(String(record?.mtls_cert)), fingerprint(third));
  await passes(alpha);
  assert.equal(new Set([enrolled, second, third].map(fingerprint)).size, 3);
});

const fingerprint = (pem: string): string => new X509Certificate(pem).fingerprint256;

/** Fails if the agent is not attested, and well, some rounds on. */
async function passes(attester: Attester): Promise<void> {
  const count = async () => {
    const { attestation_count, attestation_status } = (await attester.status()) ?? {};
    assert.notEqual(attestation_status, 'FAIL');
    return Number(attestation_count);
  };
  const before = await count();
  await until(async () => (await count()) > before + 2 || undefined, 'the agent to pass', {
    broken: new Promise(() => {}),
  });
}

/** The certificate that is shown there. */
async function shownAt(port: number): Promise<string | undefined> {
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false });
  try {
    await once(socket, 'secureConnect');
    return socket.getPeerX509Certificate()?.fingerprint256;
  } finally {
    socket.on('error', () => {}).destroy();
  }
}
