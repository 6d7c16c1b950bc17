import { type Codec, constant, type Decoded, struct, u16, u32, u64, yesNo } from '@keylime/core/codec';
import { TpmlPcrSelection } from './pcr-selection.ts';
import { tpm2bData, tpm2bDigest, tpm2bName } from './tpm2b.ts';

const TPM_GENERATED_VALUE = 0xff544347;
const TPM_ST_ATTEST_CERTIFY = 0x8017;
const TPM_ST_ATTEST_QUOTE = 0x8018;

/** TPMS_CLOCK_INFO (TPM 2.0 Part 2 r1.59, 10.11.1). `clock` counts milliseconds. */
export const TpmsClockInfo = struct({ clock: u64, resetCount: u32, restartCount: u32, safe: yesNo });
export type TpmsClockInfo = Decoded<typeof TpmsClockInfo>;

/** TPMS_QUOTE_INFO (10.12.4). `pcrDigest` covers the selected PCRs in the order of `pcrSelect`. */
export const TpmsQuoteInfo = struct({ pcrSelect: TpmlPcrSelection, pcrDigest: tpm2bDigest });

/** TPMS_CERTIFY_INFO (10.12.3): the Names of the object certified. */
export const TpmsCertifyInfo = struct({ name: tpm2bName, qualifiedName: tpm2bName });

/** TPMS_ATTEST (10.12.12), one codec per `type`: a certification offered as a quote does not decode. */
const attestOf = <T, N extends number>(type: N, attested: Codec<T>) =>
  struct({
    magic: constant(u32, TPM_GENERATED_VALUE),
    type: constant(u16, type),
    qualifiedSigner: tpm2bName,
    extraData: tpm2bData,
    clockInfo: TpmsClockInfo,
    firmwareVersion: u64,
    attested,
  });

/** What TPM2_Quote signs: big-endian, as all of TPMS_ATTEST. Decoding does not verify it (quote.ts does). */
export const QuoteAttest = attestOf(TPM_ST_ATTEST_QUOTE, TpmsQuoteInfo);
export type QuoteAttest = Decoded<typeof QuoteAttest>;

/** What TPM2_Certify signs. Decoding does not verify it (certify.ts does). */
export const CertifyAttest = attestOf(TPM_ST_ATTEST_CERTIFY, TpmsCertifyInfo);
export type CertifyAttest = Decoded<typeof CertifyAttest>;
