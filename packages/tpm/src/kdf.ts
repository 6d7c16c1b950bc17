import { createHmac } from 'node:crypto';
import { digest, digestSize, type HashAlgorithm, opensslName } from '@keylime/core/digest';

const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** Blocks 1, 2, ... concatenated and cut to `bits`, which is a multiple of 8. */
function blocks(hash: HashAlgorithm, bits: number, block: (counter: Buffer) => Buffer): Buffer {
  const size = bits / 8;
  const count = Math.ceil(size / digestSize(hash));
  return Buffer.concat(Array.from({ length: count }, (_, i) => block(uint32(i + 1)))).subarray(0, size);
}

/** KDFa (TPM 2.0 Part 1 r1.59, 11.4.10.2): SP 800-108 counter mode with HMAC. `label` gets its closing zero here. */
export const kdfa = (
  hash: HashAlgorithm,
  key: Uint8Array,
  label: string,
  contextU: Uint8Array,
  contextV: Uint8Array,
  bits: number,
): Buffer =>
  blocks(hash, bits, (counter) => {
    const hmac = createHmac(opensslName(hash), key).update(counter).update(`${label}\0`, 'latin1');
    return hmac.update(contextU).update(contextV).update(uint32(bits)).digest();
  });

/** KDFe (11.4.10.3): SP 800-56A concatenation. `z`, `partyU` and `partyV` are x-coordinates of full length. */
export const kdfe = (
  hash: HashAlgorithm,
  z: Uint8Array,
  label: string,
  partyU: Uint8Array,
  partyV: Uint8Array,
  bits: number,
): Buffer =>
  blocks(hash, bits, (counter) => digest(hash, counter, z, Buffer.from(`${label}\0`, 'latin1'), partyU, partyV));
