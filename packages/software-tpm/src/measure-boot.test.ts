import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import type { HashAlgorithm } from '@keylime/core/digest';
import { decodeEventLog } from '@keylime/event-log/decode';
import { encodeEventLog } from '@keylime/event-log/encode';
import { type EventLogVerification, verifyEventLog } from '@keylime/event-log/verify';
import { createAk } from '@keylime/tpm/ak';
import { createEk } from '@keylime/tpm/ek';
import { flush } from '@keylime/tpm/object';
import { type VerifiedQuote, verifyQuote } from '@keylime/tpm/quote';
import { quotePcrs } from '@keylime/tpm/quote-device';
import { openTransport } from '@keylime/tpm/tcti';
import { openTpm } from '@keylime/tpm/tpm';
import { type Boot, bootEvents, goodBoot } from './boot.ts';
import { makeBootCertificates } from './boot-certificates.ts';
import { BOOT_BANKS, measureBoot, shutDown } from './measure-boot.ts';
import { startSwtpm } from './swtpm.ts';

const BOOT_PCRS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14];
const certificates = await makeBootCertificates();
const logOf = (changes: Partial<Boot> = {}): Buffer =>
  encodeEventLog(BOOT_BANKS, bootEvents({ ...goodBoot(certificates), ...changes }));

/** A fresh quote of the TPM, verified. */
async function quoteOf(tcti: string, hash: HashAlgorithm): Promise<VerifiedQuote> {
  const tpm = await openTpm({ transport: await openTransport(tcti) });
  try {
    const ek = await createEk(tpm, 'rsa2048');
    const ak = await createAk(tpm, { ek, encryption: 'ecc256', signing: 'ecdsa', hash });
    const nonce = Buffer.from('a nonce of this test');
    const mask = BOOT_PCRS.reduce((bits, pcr) => bits | (1 << pcr), 0);
    const text = await quotePcrs(tpm, { ak, nonce, mask, bindingPublicKeyPem: 'a public key' });
    await flush(tpm, ak);
    await flush(tpm, ek);
    const verified = verifyQuote({ ak: ak.public, hashAlg: hash, nonce, mask, text });
    assert(verified.ok);
    return verified.quote;
  } finally {
    await tpm.close();
  }
}

/** Whether `log` leads to what the TPM quotes. */
const compare = async (tcti: string, log: Uint8Array, hash: HashAlgorithm): Promise<EventLogVerification> =>
  verifyEventLog(decodeEventLog(log), await quoteOf(tcti, hash), BOOT_PCRS);

test('a log leads to what the TPM quotes after the boot that it tells, and no log of another boot does', async () => {
  const swtpm = await startSwtpm({ banks: BOOT_BANKS, certificates: false });
  try {
    const log = logOf();
    await measureBoot(swtpm.tcti, log);
    for (const bank of ['sha256', 'sha384'] as const) {
      assert.equal((await compare(swtpm.tcti, log, bank)).ok, true, bank);
    }
    const other = await compare(swtpm.tcti, logOf({ kernelCommandLine: '/boot/vmlinuz init=/bin/sh' }), 'sha256');
    assert(!other.ok);
    assert.deepEqual(
      other.failures.map((failure) => (failure.kind === 'measured_boot_pcr_mismatch' ? failure.pcr : failure.kind)),
      [8, 9],
    );

    await swtpm.restart();
    const real = await readFile(new URL('../../testing/vectors/debian12-secureboot-vm/bios.bin', import.meta.url));
    await measureBoot(swtpm.tcti, real);
    assert.equal((await compare(swtpm.tcti, real, 'sha256')).ok, true);
  } finally {
    await swtpm.stop();
  }
});

test('a log that cannot be read is not measured', async () => {
  await assert.rejects(
    measureBoot('swtpm:host=127.0.0.1,port=1', Buffer.from('no log')),
    /boot event log at byte 4: 4 bytes wanted/,
  );
});

test('after a machine was switched off in good order its TPM counts a reset, and the clock goes on', async () => {
  const swtpm = await startSwtpm({ certificates: false });
  try {
    const before = (await quoteOf(swtpm.tcti, 'sha256')).clockInfo;
    await shutDown(swtpm.tcti);
    await swtpm.restart();
    const after = (await quoteOf(swtpm.tcti, 'sha256')).clockInfo;
    assert.deepEqual([after.resetCount, after.safe], [before.resetCount + 1, true]);
    assert.ok(after.clock >= before.clock);
  } finally {
    await swtpm.stop();
  }
});
