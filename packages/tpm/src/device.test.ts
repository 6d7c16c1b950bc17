import assert from 'node:assert/strict';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { after, before, test } from 'node:test';
import { counted, encode, nothing, struct, u16, u32 } from '@keylime/core/codec';
import { digest } from '@keylime/core/digest';
import { type Swtpm, startSwtpm } from '@keylime/software-tpm/swtpm';
import { softwareAk } from '@keylime/testing/software-ak';
import { type Ak, type AkAlgorithms, activateCredential, akTemplate, createAk, loadAk } from './ak.ts';
import { activeBanks, signingAlgorithms, vendorString } from './capabilities.ts';
import { verifyCertify } from './certify.ts';
import { clockProblems, wasReset } from './clock.ts';
import { command, HierarchyChangeAuth, LoadExternal, PcrExtend } from './commands.ts';
import { decodeChallenge, encodeChallenge, makeCredential } from './credential.ts';
import { createEk, EK_ALGORITHMS, ekTemplate, readEk, readEkCertificate, readEkCertificateChain } from './ek.ts';
import { TPM_RH_ENDORSEMENT, TPM_RH_NULL, TPM_RH_OWNER } from './handles.ts';
import { certify, createIak, createIdevid, IAK_TEMPLATES } from './iak.ts';
import { akProblems, ekProblems, iakProblems, idevidProblems } from './key-checks.ts';
import { flush, persist, readObject, type TpmObject, unpersist } from './object.ts';
import { readPcrs } from './pcr.ts';
import { attributesOf, encryptionAlgorithm, objectName, publicKey, TpmtPublic } from './public.ts';
import { type VerifiedQuote, verifyQuote } from './quote.ts';
import { quotePcrs } from './quote-device.ts';
import { openTransport } from './tcti.ts';
import { encodeCommand, openTpm, password, type Tpm } from './tpm.ts';
import { tpm2bDigest, tpm2bOpaque, tpm2bRsa } from './tpm2b.ts';
import type { Transport } from './transport/transport.ts';

const none = Buffer.alloc(0);
const nonce = Buffer.from('AbCdEfGhIjKlMnOpQrSt');
const secret = Buffer.from('0123456789ABCDEFGHIJKLMNOPQRSTUV');
const PEM = '-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n';

let swtpm: Swtpm;
let tpm: Tpm;
before(async () => {
  swtpm = await startSwtpm({ banks: ['sha256', 'sha384', 'sha512'] });
  tpm = await openTpm({ transport: await openTransport(swtpm.tcti) });
});
after(async () => {
  await tpm?.close();
  await swtpm?.stop();
});

/** Runs `use` with an EK, which is flushed afterwards. */
async function withEk<T>(use: (ek: TpmObject) => Promise<T>, algorithm: (typeof EK_ALGORITHMS)[number] = 'rsa2048') {
  const ek = await createEk(tpm, algorithm);
  try {
    return await use(ek);
  } finally {
    await flush(tpm, ek);
  }
}

/** Runs `use` with an AK under an RSA 2048 EK. */
const withAk = <T>(use: (ak: Ak, ek: TpmObject) => Promise<T>, algorithms: Partial<AkAlgorithms> = {}) =>
  withEk(async (ek) => {
    const ak = await createAk(tpm, { ek, encryption: 'ecc256', signing: 'ecdsa', hash: 'sha256', ...algorithms });
    try {
      return await use(ak, ek);
    } finally {
      await flush(tpm, ak);
    }
  });

async function quoted(ak: TpmObject, mask = 0xfbff, from = tpm): Promise<VerifiedQuote> {
  const scheme = ak.public.scheme;
  assert('hash' in scheme);
  const text = await quotePcrs(from, { ak, nonce, mask, bindingPublicKeyPem: PEM });
  const result = verifyQuote({ text, ak: ak.public, hashAlg: scheme.hash, nonce, mask });
  assert(result.ok, result.ok ? '' : result.failure.kind);
  return result.quote;
}

test('a TPM tells what it is', async () => {
  assert.match(await vendorString(tpm), /SW/);
  assert.deepEqual([...(await activeBanks(tpm)).keys()].sort(), ['sha256', 'sha384', 'sha512']);
  assert.deepEqual(await signingAlgorithms(tpm), ['ecdsa', 'ecschnorr', 'rsapss', 'rsassa']);
});

test('an EK of every kind is made, is always the same, and activates a credential made for it', async () => {
  for (const algorithm of EK_ALGORITHMS.filter((one) => one !== 'rsa4096')) {
    const first = await createEk(tpm, algorithm);
    await flush(tpm, first);
    await withEk(async (ek) => {
      assert.deepEqual(ek.name, first.name);
      assert.deepEqual(ek.name, objectName(ek.public));
      assert.deepEqual(ekProblems(ek.public), []);
      assert.equal(encryptionAlgorithm(ek.public), algorithm);
      const ak = await createAk(tpm, { ek, encryption: 'ecc256', signing: 'ecdsa', hash: 'sha256' });
      const blob = encodeChallenge(makeCredential({ ek: ek.public, akName: objectName(ak.public), secret }));
      assert.deepEqual(await activateCredential(tpm, { ek, ak, credential: decodeChallenge(blob) }), secret);
      await flush(tpm, ak);
    }, algorithm);
  }
});

test('what this TPM does not have is named', async () => {
  await assert.rejects(createEk(tpm, 'rsa4096'), { code: 'TPM_RC_VALUE', message: /TPM2_CreatePrimary.*parameter 2/ });
  await assert.rejects(readObject(tpm, 0x81000099), { code: 'TPM_RC_HANDLE' });
});

test('EKs and certificates of the manufacturer are found', async () => {
  for (const [algorithm, handle] of [
    ['rsa2048', 0x81010001],
    ['ecc384', 0x81010016],
  ] as const) {
    const persistent = await readEk(tpm, handle);
    await withEk(async (ek) => assert.deepEqual(ek.public, persistent.public), algorithm);
    const der = await readEkCertificate(tpm, algorithm);
    assert(der !== undefined);
    const certificate = new X509Certificate(der);
    assert(certificate.publicKey.equals(publicKey(persistent.public)));
    assert(certificate.verify(createPublicKey(swtpm.caCertificates[0] ?? '')));
    assert.deepEqual(certificate.raw, der);
  }
  assert.equal(await readEkCertificate(tpm, 'ecc256'), undefined);
});

test('AKs of every kind sign quotes that verify', async () => {
  const kinds = [
    ...(['sha256', 'sha384', 'sha512'] as const).flatMap((hash) => [
      { encryption: 'rsa2048', signing: 'rsassa', hash } as const,
      { encryption: 'rsa2048', signing: 'rsapss', hash } as const,
      { encryption: 'ecc256', signing: 'ecdsa', hash } as const,
      { encryption: 'ecc384', signing: 'ecdsa', hash } as const,
      { encryption: 'ecc521', signing: 'ecdsa', hash } as const,
    ]),
    { encryption: 'rsa3072', signing: 'rsapss', hash: 'sha384' } as const,
  ];
  for (const algorithms of kinds) {
    await withAk(async (ak) => {
      assert.deepEqual(akProblems(ak.public), []);
      const quote = await quoted(ak);
      assert.equal(quote.encAlg, algorithms.encryption);
      assert.equal(quote.signAlg, algorithms.signing);
      const zeros = Buffer.alloc(quote.pcrs.get(16)?.length ?? 0);
      const bound = digest(algorithms.hash, zeros, digest(algorithms.hash, Buffer.from(PEM)));
      assert.deepEqual(quote.pcrs.get(16), bound);
    }, algorithms);
  }
});

test('key type and scheme that do not go together are refused before the TPM sees them', () => {
  assert.throws(() => akTemplate({ encryption: 'ecc256', signing: 'rsassa', hash: 'sha256' }), RangeError);
  assert.throws(() => akTemplate({ encryption: 'rsa2048', signing: 'ecdsa', hash: 'sha256' }), RangeError);
});

test('a credential for another AK, or changed on its way, is not opened', () =>
  withAk(async (ak, ek) => {
    const other = makeCredential({ ek: ek.public, akName: ek.name, secret });
    await assert.rejects(activateCredential(tpm, { ek, ak, credential: other }), { code: 'TPM_RC_INTEGRITY' });
    const mine = makeCredential({ ek: ek.public, akName: ak.name, secret });
    const credentialBlob = Buffer.from(mine.credentialBlob);
    credentialBlob.writeUInt8(credentialBlob.readUInt8(50) ^ 1, 50);
    const changed = activateCredential(tpm, { ek, ak, credential: { ...mine, credentialBlob } });
    await assert.rejects(changed, { code: 'TPM_RC_INTEGRITY' });
  }));

test('an AK is loaded again from what was kept, under its own EK only', async () => {
  const kept = await withAk(async ({ public: pub, private: priv, name }) => ({ public: pub, private: priv, name }));
  await withEk(async (ek) => {
    const ak = await loadAk(tpm, { ek, ...kept });
    assert.deepEqual(ak.name, kept.name);
    await quoted(ak);
    await flush(tpm, ak);
  });
  await withEk(async (ek) => assert.rejects(loadAk(tpm, { ek, ...kept }), { code: 'TPM_RC_INTEGRITY' }), 'ecc256');
});

test('failures leave no session behind', () =>
  withEk(async (ek) => {
    const algorithms = { encryption: 'rsa1024', signing: 'rsassa', hash: 'sha512' } as const;
    for (let i = 0; i < 10; i++) {
      await assert.rejects(loadAk(tpm, { ek, public: akTemplate(algorithms), private: none }), /TPM_RC/);
    }
  }));

test('the endorsement hierarchy’s password is needed where there is one', async () => {
  const hierarchyAuth = Buffer.from('owner password');
  const handles = { authHandle: TPM_RH_ENDORSEMENT };
  await tpm.run(HierarchyChangeAuth, {
    handles,
    authorizations: [password()],
    parameters: { newAuth: hierarchyAuth },
  });
  try {
    await assert.rejects(createEk(tpm, 'rsa2048'), { code: 'TPM_RC_BAD_AUTH', message: /tpm_ownerpassword/ });
    const ek = await createEk(tpm, 'rsa2048', { hierarchyAuth });
    const algorithms = { encryption: 'ecc256', signing: 'ecdsa', hash: 'sha256' } as const;
    await assert.rejects(createAk(tpm, { ek, ...algorithms }), { code: 'TPM_RC_BAD_AUTH' });
    const ak = await createAk(tpm, { ek, hierarchyAuth, ...algorithms });
    const credential = makeCredential({ ek: ek.public, akName: ak.name, secret });
    assert.deepEqual(await activateCredential(tpm, { ek, ak, hierarchyAuth, credential }), secret);
    await flush(tpm, ak);
    await flush(tpm, ek);
  } finally {
    await tpm.run(HierarchyChangeAuth, {
      handles,
      authorizations: [password(hierarchyAuth)],
      parameters: { newAuth: none },
    });
  }
});

test('objects are kept at persistent handles, and full memory is named', async () => {
  const persistentHandle = 0x81000010;
  await withAk(async (ak) => {
    const kept = await persist(tpm, { object: ak, persistentHandle });
    assert.deepEqual((await readObject(tpm, persistentHandle)).name, ak.name);
    await quoted(kept);
    await flush(tpm, kept); // does nothing: it is persistent
    await unpersist(tpm, persistentHandle);
    await assert.rejects(readObject(tpm, persistentHandle), { code: 'TPM_RC_HANDLE' });
  });
  const objects: TpmObject[] = [];
  try {
    await assert.rejects(
      async () => {
        for (let i = 0; i < 9; i++) objects.push(await createEk(tpm, 'ecc256'));
      },
      { code: 'TPM_RC_OBJECT_MEMORY', message: /flush/ },
    );
  } finally {
    for (const object of objects) await flush(tpm, object);
  }
});

test('IAK and IDevID of the templates H-1 to H-4; the IAK certifies the AK', async () => {
  for (const algorithms of Object.values(IAK_TEMPLATES)) {
    const idevid = await createIdevid(tpm, algorithms);
    assert.deepEqual(idevidProblems(idevid.public), []);
    await flush(tpm, idevid);
    const iak = await createIak(tpm, algorithms);
    assert.deepEqual(iakProblems(iak.public), []);
    await withAk(async (ak) => {
      const qualifyingData = digest('sha256', Buffer.from('agent-1'));
      const proof = await certify(tpm, { object: ak, signer: iak, qualifyingData });
      const expected = { ...proof, qualifyingData: [qualifyingData], certifiedName: objectName(ak.public) };
      assert.equal(verifyCertify({ ...expected, signer: iak.public }).ok, true);
      assert.equal(verifyCertify({ ...expected, signer: ak.public }).ok, false);
      const possession = await certify(tpm, { object: ak, signer: ak, qualifyingData });
      assert.equal(verifyCertify({ ...expected, ...possession, signer: ak.public }).ok, true);
    });
    await flush(tpm, iak);
  }
});

/** TPMT_SENSITIVE (TPM 2.0 Part 2 r1.59, 12.3.2.4) of an RSA key: one of its primes. */
const TpmtSensitive = struct({
  sensitiveType: u16,
  authValue: tpm2bDigest,
  seedValue: tpm2bDigest,
  sensitive: tpm2bRsa,
});

test('02 G1: a key made in software loads and even activates, but is no AK', () =>
  withEk(async (ek) => {
    const forger = softwareAk();
    const prime = Buffer.from(String(forger.privateKey.export({ format: 'jwk' }).p), 'base64url');
    const sensitive = { sensitiveType: 1, authValue: none, seedValue: none, sensitive: prime };
    const objectAttributes = attributesOf('userWithAuth', 'sign');
    const { handle, name } = await tpm.run(LoadExternal, {
      parameters: {
        inPrivate: encode(TpmtSensitive, sensitive),
        inPublic: { ...forger.public, objectAttributes },
        hierarchy: TPM_RH_NULL,
      },
    });
    const external = await readObject(tpm, handle);
    const credential = makeCredential({ ek: ek.public, akName: name, secret });
    assert.deepEqual(await activateCredential(tpm, { ek, ak: external, credential }), secret);
    const missing = ['fixedTPM', 'fixedParent', 'sensitiveDataOrigin', 'restricted'];
    assert.deepEqual(akProblems(external.public), [{ kind: 'key_attributes', missing, unexpected: [] }]);
    await flush(tpm, { handle });
  }));

test('quotes at the same time do not mix up PCR 16', () =>
  withAk(async (ak) => {
    const texts = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        quotePcrs(tpm, { ak, nonce, mask: 1 << 10, bindingPublicKeyPem: `key ${i}` }),
      ),
    );
    texts.forEach((text, i) => {
      const result = verifyQuote({ text, ak: ak.public, hashAlg: 'sha256', nonce, mask: 1 << 10 });
      assert(result.ok);
      const bound = digest('sha256', Buffer.alloc(32), digest('sha256', Buffer.from(`key ${i}`)));
      assert.deepEqual(result.quote.pcrs.get(16), bound);
    });
  }));

test('without a key to bind PCR 16 is neither touched nor quoted', () =>
  withAk(async (ak) => {
    const before16 = await readPcrs(tpm, 'sha256', 1 << 16);
    const text = await quotePcrs(tpm, { ak, nonce, mask: 1 << 10 });
    const result = verifyQuote({ text, ak: ak.public, hashAlg: 'sha256', nonce });
    assert(result.ok);
    assert.equal(result.quote.mask, 1 << 10);
    assert.deepEqual(await readPcrs(tpm, 'sha256', 1 << 16), before16);
  }));

test('a nonce that is too long for the TPM is refused', () =>
  withAk(async (ak) => {
    await assert.rejects(quotePcrs(tpm, { ak, nonce: Buffer.alloc(67), mask: 1 }), RangeError);
  }));

test('a bank that is not active is named', async (t) => {
  const other = await startSwtpm({ banks: ['sha256'], certificates: false });
  t.after(() => other.stop());
  const small = await openTpm({ transport: await openTransport(other.tcti) });
  t.after(() => small.close());
  const ek = await createEk(small, 'ecc256');
  const ak = await createAk(small, { ek, encryption: 'ecc384', signing: 'ecdsa', hash: 'sha384' });
  await assert.rejects(quotePcrs(small, { ak, nonce, mask: 1 << 10, bindingPublicKeyPem: PEM }), {
    code: 'pcr_bank_inactive',
    message: /bank sha384 is not active/,
  });
});

/** A transport in which PCR 10 is extended before each of the first `times` quotes. */
function disturbed(transport: Transport, times: number): Transport {
  let left = times;
  const extend = encodeCommand(PcrExtend, {
    handles: { pcrHandle: 10 },
    authorizations: [password()],
    parameters: { digests: [{ type: 'sha256', digest: Buffer.alloc(32, 1) }] },
  });
  return {
    ...transport,
    async transmit(bytes, options) {
      if (bytes.readUInt32BE(6) === 0x158 && left-- > 0) await transport.transmit(extend);
      return transport.transmit(bytes, options);
    },
  };
}

test('a PCR that moves between reading and quoting makes another attempt, at most five', async (t) => {
  const other = await startSwtpm({ certificates: false });
  t.after(() => other.stop());
  for (const [times, fine] of [
    [4, true],
    [5, false],
  ] as const) {
    const moving = await openTpm({ transport: disturbed(await openTransport(other.tcti), times) });
    const ek = await createEk(moving, 'ecc256');
    const ak = await createAk(moving, { ek, encryption: 'ecc256', signing: 'ecdsa', hash: 'sha256' });
    if (fine) assert.notDeepEqual((await quoted(ak, 1 << 10, moving)).pcrs.get(10), Buffer.alloc(32));
    else await assert.rejects(quoted(ak, 1 << 10, moving), { code: 'pcrs_keep_changing' });
    await flush(moving, ak);
    await flush(moving, ek);
    await moving.close();
  }
});

test('a reboot shows in the clock of the quotes', async (t) => {
  const other = await startSwtpm({ certificates: false });
  t.after(() => other.stop());
  const boot = async () => {
    const one = await openTpm({ transport: await openTransport(other.tcti) });
    const ek = await createEk(one, 'ecc256');
    const ak = await createAk(one, { ek, encryption: 'ecc256', signing: 'ecdsa', hash: 'sha256' });
    const first = await quoted(ak, 1 << 10, one);
    const second = await quoted(ak, 1 << 10, one);
    await one.close();
    return [first.clockInfo, second.clockInfo] as const;
  };
  const [first, second] = await boot();
  assert.equal(wasReset(first, second), false);
  assert.deepEqual(
    clockProblems(first, second).filter((problem) => !problem.recoverable),
    [],
  );
  await other.restart();
  const [third] = await boot();
  assert.equal(wasReset(second, third), true);
  assert.deepEqual(
    clockProblems(second, third).filter((problem) => !problem.recoverable),
    [],
  );
  assert.deepEqual(clockProblems(third, second)[0]?.kind, 'clock_reset_count_decreased');
});

const NvDefineSpace = command({
  name: 'NV_DefineSpace',
  code: 0x12a,
  handles: ['authHandle'],
  authorized: 1,
  parameters: struct({
    auth: tpm2bDigest,
    publicInfo: counted(
      u16,
      struct({ nvIndex: u32, nameAlg: u16, attributes: u32, authPolicy: tpm2bDigest, dataSize: u16 }),
    ),
  }),
  answer: nothing,
});
const NvWrite = command({
  name: 'NV_Write',
  code: 0x137,
  handles: ['authHandle', 'nvIndex'],
  authorized: 1,
  parameters: struct({ data: tpm2bOpaque, offset: u16 }),
  answer: nothing,
});

/** Stores `data` at an NV index as a manufacturer would: readable with an empty password. */
async function writeNv(to: Tpm, nvIndex: number, data: Buffer): Promise<void> {
  const OWNERWRITE_AUTHREAD_NODA = (1 << 1) | (1 << 18) | (1 << 25);
  await to.run(NvDefineSpace, {
    handles: { authHandle: TPM_RH_OWNER },
    authorizations: [password()],
    parameters: {
      auth: none,
      publicInfo: {
        nvIndex,
        nameAlg: 0x0b,
        attributes: OWNERWRITE_AUTHREAD_NODA,
        authPolicy: none,
        dataSize: data.length,
      },
    },
  });
  for (let offset = 0; offset < data.length; offset += 512) {
    await to.run(NvWrite, {
      handles: { authHandle: TPM_RH_OWNER, nvIndex },
      authorizations: [password()],
      parameters: { data: data.subarray(offset, offset + 512), offset },
    });
  }
}

test('EK nonce and template, padded certificates and the chain are read from NV', async (t) => {
  const other = await startSwtpm({ certificates: false });
  t.after(() => other.stop());
  const maker = await openTpm({ transport: await openTransport(other.tcti) });
  t.after(() => maker.close());
  const made = async () => {
    const ek = await createEk(maker, 'ecc256');
    await flush(maker, ek);
    return ek;
  };
  const plain = await made();

  const certificate = (await readEkCertificate(tpm, 'rsa2048')) ?? none;
  await writeNv(maker, 0x01c0000a, Buffer.concat([certificate, Buffer.alloc(100, 0xff)]));
  assert.deepEqual(await readEkCertificate(maker, 'ecc256'), certificate);

  assert.deepEqual(await readEkCertificateChain(maker), []);
  const joined = Buffer.concat([certificate, certificate, Buffer.alloc(20)]);
  await writeNv(maker, 0x01c00100, joined.subarray(0, 700));
  await writeNv(maker, 0x01c00101, joined.subarray(700, 1400));
  await writeNv(maker, 0x01c00102, joined.subarray(1400));
  await writeNv(maker, 0x01c08000, certificate); // outside the range, as swtpm's platform certificate
  assert.deepEqual(await readEkCertificateChain(maker), [certificate, certificate]);

  await writeNv(maker, 0x01c0000b, Buffer.from('a nonce'));
  const withNonce = await made();
  assert.notDeepEqual(withNonce.name, plain.name);

  const template = ekTemplate('ecc256');
  assert(template.type === 'ecc');
  const noDA = { ...template, objectAttributes: { ...template.objectAttributes, noDA: true } };
  await writeNv(maker, 0x01c0000c, encode(TpmtPublic, noDA));
  const withTemplate = await made();
  assert.equal(withTemplate.public.objectAttributes.noDA, true);
});
