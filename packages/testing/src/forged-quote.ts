import { encode } from '@keylime/core/codec';
import { digest, digestSize, extend, type HashAlgorithm } from '@keylime/core/digest';
import { QuoteAttest } from '@keylime/tpm/attest';
import { PcrValues, pcrValues } from '@keylime/tpm/pcr-blob';
import { DATA_PCR, maskPcrs, pcrSelection, withDataPcr } from '@keylime/tpm/pcr-selection';
import { objectName } from '@keylime/tpm/public';
import { encodeQuote } from '@keylime/tpm/quote';
import type { QuoteOptions, SoftwareAk } from './software-ak.ts';

export type Selection = { readonly bank: HashAlgorithm; readonly mask: number };

export type Forgery = {
  /** What the TPM signs: it quotes whatever PCRs it is asked for, PCR 16 only if it is named. */
  readonly attested: readonly Selection[];
  /** What the unsigned values beside the quote are called. */
  readonly labelled: Selection;
  /** The values quoted, in the order of the attested PCRs. */
  readonly values: readonly Buffer[];
};

/**
 * The text of a quote that root can have its TPM make and then wrap as it likes: the signature is the AK's, the PCRs are
 * not those that were asked for.
 */
export function forgedQuote(ak: SoftwareAk, { nonce, clockInfo }: QuoteOptions, forgery: Forgery): string {
  const { attested, labelled, values } = forgery;
  const attest = encode(QuoteAttest, {
    magic: 0xff544347,
    type: 0x8018,
    qualifiedSigner: objectName(ak.public),
    extraData: Buffer.from(nonce),
    clockInfo: { clock: 1n, resetCount: 1, restartCount: 0, safe: true, ...clockInfo },
    firmwareVersion: 1n,
    attested: {
      pcrSelect: attested.map(({ bank, mask }) => pcrSelection(bank, mask)),
      pcrDigest: digest('sha256', ...values),
    },
  });
  const pcrBlob = encode(PcrValues, pcrValues(labelled.bank, labelled.mask, values));
  return encodeQuote({ attest, signature: ak.sign(attest), pcrBlob });
}

/** The values that a truthful quote would hold, by PCR; those of `mask` and PCR 16. */
export function truthfulValues({ mask, pcrs, bindingPublicKeyPem = '' }: QuoteOptions): ReadonlyMap<number, Buffer> {
  const zeros = Buffer.alloc(digestSize('sha256'));
  const bound = extend('sha256', zeros, digest('sha256', Buffer.from(bindingPublicKeyPem)));
  return new Map(maskPcrs(withDataPcr(mask)).map((pcr) => [pcr, pcrs?.get(pcr) ?? (pcr === DATA_PCR ? bound : zeros)]));
}
