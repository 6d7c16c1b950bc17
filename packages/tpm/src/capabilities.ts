import type { HashAlgorithm } from '@keylime/core/digest';
import { findHash, type SigningAlgorithm, TPM_ALG } from './algorithms.ts';
import { GetCapability } from './commands.ts';
import { bitmapMask } from './pcr-selection.ts';
import type { Tpm } from './tpm.ts';

/** TPM_PT_VENDOR_STRING_1 and the three after it (TPM 2.0 Part 2 r1.59, 6.13). */
const TPM_PT_VENDOR_STRING_1 = 0x106;
/** TPMA_ALGORITHM (8.2): asymmetric and signing. */
const ASYMMETRIC_SIGNING = (1 << 0) | (1 << 8);

/** `count` handles from `first` on, of the type of `first`. */
export async function readHandles(tpm: Tpm, first: number, count: number): Promise<readonly number[]> {
  const { data } = await tpm.run(GetCapability, {
    parameters: { capability: 'handles', property: first, propertyCount: count },
  });
  return data.type === 'handles' ? data.handles : [];
}

/** The value of a TPM_PT, or `undefined` if this TPM does not have it. */
export async function findProperty(tpm: Tpm, property: number): Promise<number | undefined> {
  const { data } = await tpm.run(GetCapability, {
    parameters: { capability: 'properties', property, propertyCount: 1 },
  });
  return data.type === 'properties' ? data.properties.find((one) => one.property === property)?.value : undefined;
}

/** The vendor's name of the TPM; a software TPM has `SW` in it. */
export async function vendorString(tpm: Tpm): Promise<string> {
  const { data } = await tpm.run(GetCapability, {
    parameters: { capability: 'properties', property: TPM_PT_VENDOR_STRING_1, propertyCount: 4 },
  });
  const values = data.type === 'properties' ? data.properties.map((one) => one.value) : [];
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => {
    bytes.writeUInt32BE(value, 4 * i);
  });
  return bytes.toString('latin1').replaceAll('\0', '').trim();
}

/** The PCR banks in use, each with the mask of its PCRs. A bank whose hash we do not know is left out. */
export async function activeBanks(tpm: Tpm): Promise<ReadonlyMap<HashAlgorithm, number>> {
  const { data } = await tpm.run(GetCapability, {
    parameters: { capability: 'pcrs', property: 0, propertyCount: 64 },
  });
  const banks = new Map<HashAlgorithm, number>();
  for (const { hash, pcrSelect } of data.type === 'pcrs' ? data.banks : []) {
    const name = findHash(hash);
    const mask = bitmapMask(pcrSelect);
    if (name !== undefined && mask !== 0) banks.set(name, mask);
  }
  return banks;
}

/** The signing algorithms of this TPM that Keylime has a name for, sorted. */
export async function signingAlgorithms(tpm: Tpm): Promise<readonly SigningAlgorithm[]> {
  const { data } = await tpm.run(GetCapability, {
    parameters: { capability: 'algorithms', property: 0, propertyCount: 512 },
  });
  const signing = (data.type === 'algorithms' ? data.algorithms : []).filter(
    ({ attributes }) => (attributes & ASYMMETRIC_SIGNING) === ASYMMETRIC_SIGNING,
  );
  const names = ['ecdsa', 'ecschnorr', 'rsapss', 'rsassa'] as const;
  return names.filter((name) => signing.some(({ algorithm }) => algorithm === TPM_ALG[name]));
}
