import { decode, encode } from '@keylime/core/codec';
import { CodedError } from '@keylime/core/coded-error';
import { digest } from '@keylime/core/digest';
import { QuoteAttest } from './attest.ts';
import { Quote } from './commands.ts';
import type { TpmObject } from './object.ts';
import { extendPcr, readPcrs, resetPcr } from './pcr.ts';
import { PcrValues, pcrValues } from './pcr-blob.ts';
import { DATA_PCR, maskPcrs, pcrSelection, withDataPcr } from './pcr-selection.ts';
import type { TpmtPublic } from './public.ts';
import { encodeQuote } from './quote.ts';
import { TpmtSignature } from './signature.ts';
import { password, type Tpm } from './tpm.ts';

const ATTEMPTS = 5;

/** A quote cannot be made, or not yet. */
export class QuoteError extends CodedError<'pcrs_keep_changing' | 'ak_not_signing'> {}

function akScheme({ scheme }: TpmtPublic) {
  if (scheme.type === 'rsassa' || scheme.type === 'rsapss' || scheme.type === 'ecdsa' || scheme.type === 'ecschnorr') {
    return scheme;
  }
  throw new QuoteError('ak_not_signing', `the AK's scheme is ${scheme.type}; it cannot sign quotes`);
}

/**
 * Quotes PCRs with the AK's own scheme and hash; the bank is that of the hash.
 * @param mask bit i asks for PCR i.
 * @param bindingPublicKeyPem text whose hash is put into PCR 16, which is then quoted too; without it PCR 16 is left alone.
 * @returns Keylime's text of the quote (quote.ts).
 * @throws PcrBankError if the bank is not active; QuoteError `pcrs_keep_changing` if the values moved between reading
 *   and quoting 5 times; TpmError `TPM_RC_SIZE` for parameter 1 if the nonce is longer than this TPM's largest hash plus 2.
 */
export function quotePcrs(
  tpm: Tpm,
  options: {
    readonly ak: Pick<TpmObject, 'handle' | 'public'>;
    readonly nonce: Uint8Array;
    readonly mask: number;
    readonly bindingPublicKeyPem?: string;
  },
): Promise<string> {
  const { ak, nonce, bindingPublicKeyPem } = options;
  const inScheme = akScheme(ak.public);
  const bank = inScheme.hash;
  const mask = bindingPublicKeyPem === undefined ? options.mask : withDataPcr(options.mask);
  return tpm.exclusive(async (inner) => {
    if (bindingPublicKeyPem !== undefined) {
      await resetPcr(inner, DATA_PCR);
      await extendPcr(inner, DATA_PCR, [{ bank, digest: digest(bank, Buffer.from(bindingPublicKeyPem, 'utf8')) }]);
    }
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const pcrs = await readPcrs(inner, bank, mask);
      const { quoted, signature } = await inner.run(Quote, {
        handles: { signHandle: ak.handle },
        authorizations: [password()],
        parameters: { qualifyingData: Buffer.from(nonce), inScheme, pcrSelect: [pcrSelection(bank, mask)] },
      });
      const values = maskPcrs(mask).map((pcr) => pcrs.get(pcr) ?? Buffer.alloc(0));
      if (!digest(bank, ...values).equals(decode(QuoteAttest, quoted).attested.pcrDigest)) continue;
      const pcrBlob = encode(PcrValues, pcrValues(bank, mask, values));
      return encodeQuote({ attest: quoted, signature: encode(TpmtSignature, signature), pcrBlob });
    }
    throw new QuoteError('pcrs_keep_changing', `PCRs changed during each of ${ATTEMPTS} quotes: try again`);
  });
}
