import { constants, createCipheriv, createECDH, createHmac, publicEncrypt, randomBytes } from 'node:crypto';
import { constant, countedBytes, type Decoded, decode, encode, restBytes, struct, u16, u32 } from '@keylime/core/codec';
import { codeOf } from '@keylime/core/coded-error';
import { digestSize, type HashAlgorithm, opensslName } from '@keylime/core/digest';
import { type Curve, coordinateSize } from './algorithms.ts';
import { kdfa, kdfe } from './kdf.ts';
import { publicKey, TpmKeyError, TpmsEccPoint, type TpmtPublic } from './public.ts';
import { tpm2bDigest } from './tpm2b.ts';

/** `size` fresh random bytes. */
export type RandomSource = (size: number) => Buffer;

/** TPMS_ID_OBJECT (TPM 2.0 Part 2 r1.59, 12.4.2). `encIdentity` is the encrypted TPM2B_DIGEST of the secret. */
const TpmsIdObject = struct({ integrityHmac: tpm2bDigest, encIdentity: restBytes });

/** What Keylime sends as `blob`, before base64: version 1 of the file that tpm2-tools' makecredential writes. */
const CHALLENGE_HEADER = { magic: 0xbadcc0de, version: 1 } as const;
const Challenge = struct({
  magic: constant(u32, CHALLENGE_HEADER.magic),
  version: constant(u32, CHALLENGE_HEADER.version),
  credentialBlob: countedBytes(u16, 256),
  encryptedSecret: countedBytes(u16, 512),
});

/** The two parameters of TPM2_ActivateCredential, each without its size. */
export type Credential = Pick<Decoded<typeof Challenge>, 'credentialBlob' | 'encryptedSecret'>;

/** The bytes that go base64 into `blob` (a registrar's answer). */
export const encodeChallenge = ({ credentialBlob, encryptedSecret }: Credential): Buffer =>
  encode(Challenge, { ...CHALLENGE_HEADER, credentialBlob, encryptedSecret });

/** Takes such a blob apart. @throws DecodeError if its magic, version or lengths are wrong. */
export function decodeChallenge(blob: Uint8Array): Credential {
  const { credentialBlob, encryptedSecret } = decode(Challenge, blob);
  return { credentialBlob, encryptedSecret };
}

const ECDH_CURVES: Partial<Record<Curve, string>> = {
  nist_p256: 'prime256v1',
  nist_p384: 'secp384r1',
  nist_p521: 'secp521r1',
};

/** A fresh key pair on `curve`: private numbers are drawn until one is in range. */
function ephemeralKey(curve: Curve, random: RandomSource) {
  const name = ECDH_CURVES[curve];
  if (name === undefined) throw new TpmKeyError(`curve ${curve} is not supported`);
  const ecdh = createECDH(name);
  for (;;) {
    const number = random(coordinateSize(curve));
    if (curve === 'nist_p521') number[0] = (number[0] ?? 0) & 1;
    try {
      ecdh.setPrivateKey(number);
      return ecdh;
    } catch (error) {
      if (codeOf(error) !== 'ERR_CRYPTO_INVALID_KEYTYPE') throw error;
    }
  }
}

/** Secret sharing with an EK (Part 1 r1.59, B.10.3 and C.6.3): the seed and what lets only the EK's TPM find it. */
function shareSeed(ek: TpmtPublic, random: RandomSource): { readonly seed: Buffer; readonly encryptedSecret: Buffer } {
  const hash = ek.nameAlg;
  if (ek.type === 'rsa') {
    const seed = random(digestSize(hash));
    const oaep = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: opensslName(hash) };
    const oaepLabel = Buffer.from('IDENTITY\0', 'latin1');
    return { seed, encryptedSecret: publicEncrypt({ key: publicKey(ek), ...oaep, oaepLabel }, seed) };
  }
  const size = coordinateSize(ek.curve);
  publicKey(ek); // refuses a point off the curve
  const pad = (part: Buffer) => Buffer.concat([Buffer.alloc(size - part.length), part]);
  const ephemeral = ephemeralKey(ek.curve, random);
  const point = ephemeral.getPublicKey();
  const x = point.subarray(1, 1 + size);
  const ekX = pad(ek.unique.x);
  const z = ephemeral.computeSecret(Buffer.concat([Buffer.of(4), ekX, pad(ek.unique.y)]));
  return {
    seed: kdfe(hash, pad(z), 'IDENTITY', x, ekX, digestSize(hash) * 8),
    encryptedSecret: encode(TpmsEccPoint, { x, y: point.subarray(1 + size) }),
  };
}

/** The credential blob for a known seed (Part 1 r1.59, section 24): without the size in front. Exported for its vectors. */
export function sealCredential(options: {
  readonly hash: HashAlgorithm;
  readonly keyBits: number;
  readonly seed: Uint8Array;
  readonly name: Uint8Array;
  readonly secret: Uint8Array;
}): Buffer {
  const { hash, keyBits, seed, name } = options;
  const none = Buffer.alloc(0);
  const key = kdfa(hash, seed, 'STORAGE', name, none, keyBits);
  const cipher = createCipheriv(`aes-${keyBits}-cfb`, key, Buffer.alloc(16));
  const secret = encode(tpm2bDigest, Buffer.from(options.secret));
  const encIdentity = Buffer.concat([cipher.update(secret), cipher.final()]);
  const hmacKey = kdfa(hash, seed, 'INTEGRITY', none, none, digestSize(hash) * 8);
  const integrityHmac = createHmac(opensslName(hash), hmacKey).update(encIdentity).update(name).digest();
  return encode(TpmsIdObject, { integrityHmac, encIdentity });
}

/**
 * TPM2_MakeCredential in software: only the TPM that holds `ek` and an object named `akName` can find `secret`.
 * `secret` is at most as long as a digest of the EK's nameAlg. The keys' attributes are not looked at (key-checks.ts).
 * @throws TpmKeyError if `ek` cannot encrypt, RangeError if `secret` is too long.
 */
export function makeCredential(options: {
  readonly ek: TpmtPublic;
  readonly akName: Uint8Array;
  readonly secret: Uint8Array;
  readonly random?: RandomSource;
}): Credential {
  const { ek, akName, secret, random = randomBytes } = options;
  const { symmetric, nameAlg } = ek;
  if (symmetric.type !== 'aes' || symmetric.mode !== 'cfb') {
    throw new TpmKeyError(`EK wraps with ${symmetric.type}; AES in CFB mode wanted`);
  }
  if (symmetric.keyBits !== 128 && symmetric.keyBits !== 192 && symmetric.keyBits !== 256) {
    throw new TpmKeyError(`AES has no keys of ${symmetric.keyBits} bits`);
  }
  if (secret.length > digestSize(nameAlg)) throw new RangeError(`secret is longer than a ${nameAlg} digest`);
  const { seed, encryptedSecret } = shareSeed(ek, random);
  const credentialBlob = sealCredential({ hash: nameAlg, keyBits: symmetric.keyBits, seed, name: akName, secret });
  return { credentialBlob, encryptedSecret };
}

/**
 * Proof of a successful activation: 96 lower-case hexadecimal digits of HMAC-SHA384, keyed with the base64 **text** of
 * the challenge, over the agent id.
 */
export const authTag = (challengeBase64: string, agentId: string): string =>
  createHmac('sha384', challengeBase64).update(agentId, 'utf8').digest('hex');
