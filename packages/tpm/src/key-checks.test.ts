import assert from 'node:assert/strict';
import { test } from 'node:test';
import { softwareAk } from '@keylime/testing/software-ak';
import { ekTemplate } from './ek.ts';
import { IAK_TEMPLATES, iakTemplate, idevidTemplate } from './iak.ts';
import { akProblems, describeKeyProblem, ekProblems, iakProblems, idevidProblems } from './key-checks.ts';
import { attributesOf, OBJECT_ATTRIBUTES, type ObjectAttribute, type TpmtPublic } from './public.ts';

const ak = softwareAk().public;
assert(ak.type === 'rsa');
const ecKey = softwareAk({ encryption: 'ecc256' }).public;
assert(ecKey.type === 'ecc');
const template = ekTemplate('rsa2048');
assert(template.type === 'rsa');
const ek: TpmtPublic & { type: 'rsa' } = { ...template, unique: ak.unique };

test('an AK as the agents make it is accepted', () => {
  assert.deepEqual(akProblems(ak), []);
  assert.deepEqual(akProblems(ecKey), []);
  assert.deepEqual(akProblems(softwareAk({ signing: 'rsapss', hash: 'sha512' }).public), []);
});

test('a software key brought in with TPM2_LoadExternal is no AK', () => {
  const external = { ...ak, objectAttributes: attributesOf('userWithAuth', 'sign') };
  assert.deepEqual(akProblems(external), [
    {
      kind: 'key_attributes',
      missing: ['fixedTPM', 'fixedParent', 'sensitiveDataOrigin', 'restricted'],
      unexpected: [],
    },
  ]);
});

test('every attribute of an AK counts', () => {
  for (const name of Object.keys(OBJECT_ATTRIBUTES) as ObjectAttribute[]) {
    const objectAttributes = { ...ak.objectAttributes, [name]: !ak.objectAttributes[name] };
    const [problem, ...more] = akProblems({ ...ak, objectAttributes });
    const set: boolean = ak.objectAttributes[name];
    assert.deepEqual(problem, { kind: 'key_attributes', missing: set ? [name] : [], unexpected: set ? [] : [name] });
    assert.equal(more.length, 0);
  }
});

test('an AK without a scheme of its own, with a weak hash or an impossible key is refused, all at once', () => {
  assert.deepEqual(
    akProblems({ ...ak, scheme: { type: 'null' }, nameAlg: 'sha1' }).map((one) => one.kind),
    ['key_scheme', 'key_name_algorithm'],
  );
  assert.deepEqual(akProblems({ ...ak, scheme: { type: 'rsassa', hash: 'sha1' } }), [
    { kind: 'key_scheme_hash', hash: 'sha1' },
  ]);
  assert.deepEqual(akProblems({ ...ecKey, scheme: { type: 'ecschnorr', hash: 'sha256' } }), [
    { kind: 'key_scheme', scheme: 'ecschnorr' },
  ]);
  assert.deepEqual(
    akProblems({ ...ak, keyBits: 1024 }).map((one) => one.kind),
    ['key_impossible'],
  );
});

test('an EK of the profile is accepted', () => {
  assert.deepEqual(ekProblems(ek), []);
});

test('what is not a restricted storage key with AES-CFB is no EK', () => {
  assert.deepEqual(ekProblems({ ...ek, objectAttributes: ak.objectAttributes }), [
    { kind: 'key_attributes', missing: ['decrypt'], unexpected: ['sign'] },
  ]);
  for (const name of ['fixedTPM', 'fixedParent', 'restricted', 'decrypt'] as const) {
    const objectAttributes: TpmtPublic['objectAttributes'] = { ...ek.objectAttributes, [name]: false };
    assert.deepEqual(ekProblems({ ...ek, objectAttributes }), [
      { kind: 'key_attributes', missing: [name], unexpected: [] },
    ]);
  }
  assert.deepEqual(ekProblems({ ...ek, symmetric: { type: 'null' } }), [{ kind: 'key_symmetric', symmetric: 'null' }]);
  assert.deepEqual(ekProblems({ ...ek, symmetric: { type: 'aes', keyBits: 128, mode: 'cbc' } }), [
    { kind: 'key_symmetric', symmetric: 'aes-128-cbc' },
  ]);
});

test('IAK and IDevID have their own attributes', () => {
  const iak = { ...iakTemplate(IAK_TEMPLATES['H-1']), unique: ak.unique } as TpmtPublic;
  const idevid = { ...idevidTemplate(IAK_TEMPLATES['H-1']), unique: ak.unique } as TpmtPublic;
  assert.deepEqual(iakProblems(iak), []);
  assert.deepEqual(idevidProblems(idevid), []);
  assert.deepEqual(iakProblems(ak), [{ kind: 'key_attributes', missing: ['adminWithPolicy'], unexpected: [] }]);
  assert.deepEqual(idevidProblems(iak), [{ kind: 'key_attributes', missing: [], unexpected: ['restricted'] }]);
});

test('each problem has words', () => {
  assert.equal(
    describeKeyProblem({ kind: 'key_attributes', missing: ['restricted'], unexpected: ['decrypt'] }),
    'key lacks restricted and must not have decrypt',
  );
});
