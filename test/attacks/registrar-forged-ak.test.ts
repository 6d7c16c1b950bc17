import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { INVALID_REGISTRATION } from '@keylime/api/registrar/registration';
import { encode, struct, u16 } from '@keylime/core/codec';
import { type RegistrarProcess, startRegistrarProcess } from '@keylime/registrar/registrar-process';
import { startTpmRegistrant, type TpmRegistrant } from '@keylime/registrar/tpm-registrant';
import { softwareAk } from '@keylime/testing/software-ak';
import { LoadExternal } from '@keylime/tpm/commands';
import { TPM_RH_NULL } from '@keylime/tpm/handles';
import { flush, readObject, type TpmObject } from '@keylime/tpm/object';
import { attributesOf, encodePublic, type TpmtPublic } from '@keylime/tpm/public';
import { tpm2bAuth, tpm2bDigest, tpm2bRsa } from '@keylime/tpm/tpm2b';

/*
 * Hole 1: root on a machine with a genuine TPM makes an RSA key in software, brings it into the TPM with TPM2_LoadExternal,
 * registers it as AK, and from then on signs what quotes it likes. The TPM opens the challenge for such a key without
 * a word: only the attributes in the public area tell that it is none of the TPM's own.
 */
let registrar: RegistrarProcess;
let machine: TpmRegistrant;
before(async () => {
  registrar = await startRegistrarProcess();
  machine = await startTpmRegistrant();
});
after(async () => {
  await machine?.stop();
  await registrar?.stop();
});

const forged = softwareAk();
/** TPMT_SENSITIVE (TPM 2.0 Part 2 r1.59, 12.3.2.4) of an RSA key: one of its primes. */
const sensitive = encode(
  struct({ sensitiveType: u16, authValue: tpm2bAuth, seedValue: tpm2bDigest, sensitive: tpm2bRsa }),
  {
    sensitiveType: 0x0001,
    authValue: Buffer.alloc(0),
    seedValue: Buffer.alloc(0),
    sensitive: Buffer.from(String(forged.privateKey.export({ format: 'jwk' }).p), 'base64url'),
  },
);

async function loadForged(inPublic: TpmtPublic): Promise<TpmObject> {
  const parameters = { inPrivate: sensitive, inPublic, hierarchy: TPM_RH_NULL };
  const { handle } = await machine.tpm.run(LoadExternal, { parameters });
  return readObject(machine.tpm, handle);
}

const register = (id: string, ak: TpmtPublic) =>
  registrar.ask({
    method: 'POST',
    path: `/v2.6/agents/${id}`,
    json: machine.body({ aik_tpm: encodePublic(ak).toString('base64') }),
  });

test('[MUST 02 G1] a software key in the TPM is refused as AK, although the TPM would answer for it', async () => {
  const honest = { ...forged.public, objectAttributes: attributesOf('userWithAuth', 'sign') } as TpmtPublic;
  const loaded = await loadForged(honest);
  try {
    assert.deepEqual(encodePublic(loaded.public), encodePublic(honest));
    const answer = await register('forged', honest);
    if (answer.code === 200) {
      // What the attack comes to when nobody looks: an active agent whose quotes are written in software.
      const auth_tag = await machine.answer(String(answer.results.blob), 'forged', loaded);
      const activated = await registrar.ask({ method: 'PUT', path: '/v2.6/agents/forged', json: { auth_tag } });
      assert.fail(`the forged AK was registered, and its activation answered with ${activated.code}`);
    }
    assert.deepEqual([answer.code, answer.status], [400, INVALID_REGISTRATION]);
    assert.match(String(answer.results.problems), /^aik_tpm: key lacks .*fixedTPM.*restricted/);
    const record = await registrar.ask({ method: 'GET', path: '/v2.6/agents/forged', as: registrar.admin });
    assert.deepEqual([record.code, record.status], [404, "Agent with ID 'forged' not found"]);
  } finally {
    await flush(machine.tpm, loaded);
  }
});

test('each single attribute that makes an AK is asked for', async () => {
  const right = ['fixedTPM', 'fixedParent', 'sensitiveDataOrigin', 'userWithAuth', 'restricted', 'sign'] as const;
  for (const left of right) {
    const attributes = attributesOf(...right.filter((name) => name !== left));
    const answer = await register(`without-${left}`, { ...forged.public, objectAttributes: attributes } as TpmtPublic);
    assert.deepEqual([answer.code, answer.status], [400, INVALID_REGISTRATION], left);
  }
});

test('a software key that lies about its attributes registers, but no TPM answers for it', async () => {
  const answer = await register('liar', forged.public); // says fixedTPM and restricted
  assert.equal(answer.code, 200);
  await assert.rejects(loadForged(forged.public), { name: 'TpmError' });
  const loaded = await loadForged({
    ...forged.public,
    objectAttributes: attributesOf('userWithAuth', 'sign'),
  } as TpmtPublic);
  try {
    await assert.rejects(machine.answer(String(answer.results.blob), 'liar', loaded), { name: 'TpmError' });
    await assert.rejects(machine.answer(String(answer.results.blob), 'liar'), { name: 'TpmError' });
  } finally {
    await flush(machine.tpm, loaded);
  }
  const record = await registrar.ask({ method: 'GET', path: '/v2.6/agents/liar', as: registrar.admin });
  assert.deepEqual([record.code, record.status], [404, "Agent with ID 'liar' has not been activated"]);
});
