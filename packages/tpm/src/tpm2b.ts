import { countedBytes, u16 } from '@keylime/core/codec';

/** TPM2B structures: a u16 size and that many bytes (TPM 2.0 Part 2 r1.59, 10.4). Bounds are those of SHA-512, RSA 4096 and P-521. */
export const tpm2bDigest = countedBytes(u16, 64);
/** TPM2B_NONCE, TPM2B_AUTH: as long as a digest. */
export const tpm2bAuth = tpm2bDigest;
/** TPM2B_NAME (10.5.3): hash id and digest, or a handle. */
export const tpm2bName = countedBytes(u16, 66);
/** TPM2B_DATA (10.4.3): as long as a TPMT_HA. */
export const tpm2bData = countedBytes(u16, 66);
/** TPM2B_PUBLIC_KEY_RSA (11.2.4.5), also a signature made with such a key. */
export const tpm2bRsa = countedBytes(u16, 512);
/** TPM2B_ECC_PARAMETER (11.2.5.1). */
export const tpm2bEcc = countedBytes(u16, 66);
/** TPM2B_PRIVATE, TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET, TPM2B_SENSITIVE, TPM2B_MAX_NV_BUFFER and other opaque ones. */
export const tpm2bOpaque = countedBytes(u16, 4096);
