import { DecodeError, decode, encode } from '@keylime/core/codec';
import type { Log } from '@keylime/service/log';
import { type Ak, type AkParent, createAk, loadAk } from '@keylime/tpm/ak';
import { readHandles } from '@keylime/tpm/capabilities';
import { createEk, readEk, readEkCertificate, readEkCertificateChain } from '@keylime/tpm/ek';
import { flush, type TpmObject } from '@keylime/tpm/object';
import { publicKey, TpmtPublic } from '@keylime/tpm/public';
import { isTpmError, TpmError } from '@keylime/tpm/response-code';
import { openTransport } from '@keylime/tpm/tcti';
import { openTpm, type Tpm } from '@keylime/tpm/tpm';
import type { AgentData } from './agent-data.ts';
import { hashEk } from './agent-name.ts';
import type { TpmSettings } from './tpm-settings.ts';

/** First transient handle, and more than any TPM has (TPM 2.0 Part 2 r1.59, 7.2). */
const TRANSIENT_FIRST = 0x80000000;
const TRANSIENT_COUNT = 64;

/** A TPM in use, with its EK and AK in it. */
export type OpenKeys = {
  readonly tpm: Tpm;
  readonly ek: TpmObject;
  /** `hashEk` of the EK. */
  readonly ekHash: string;
  readonly ak: Ak;
  /** The AK was made just now: the registrar does not know it. */
  readonly akIsNew: boolean;
};

/**
 * Opens the TPM, finds its EK, and loads the AK that `kept` holds, or makes a new one if `kept` is of another EK or of
 * other algorithms, or the TPM does not take it. Close with `closeKeys`. A TPM that is full of transient keys (it has no
 * resource manager, and a program was killed) is emptied.
 * @throws TransportError, TpmError, DecodeError; a TPM that only cannot do it now does not lead to a new AK.
 */
export async function openKeys(settings: TpmSettings, kept: AgentData | undefined, log: Log): Promise<OpenKeys> {
  const tpm = await openTpm({ transport: await openTransport(settings.tcti) });
  try {
    return await findKeys(tpm, settings, kept, log).catch(async (cause: unknown) => {
      if (!isTpmError(cause, 'TPM_RC_OBJECT_MEMORY')) throw cause;
      const left = await readHandles(tpm, TRANSIENT_FIRST, TRANSIENT_COUNT);
      log.warn('The TPM is full of keys that a program left behind: they are flushed', { count: left.length });
      for (const handle of left) await flush(tpm, { handle });
      return findKeys(tpm, settings, kept, log);
    });
  } catch (cause) {
    await tpm.close();
    throw cause;
  }
}

async function findKeys(tpm: Tpm, settings: TpmSettings, kept: AgentData | undefined, log: Log): Promise<OpenKeys> {
  const ek = await openEk(tpm, settings);
  const ekHash = hashEk(publicKey(ek.public));
  const parent = { ek, hierarchyAuth: settings.hierarchyAuth };
  if (kept !== undefined) {
    const unfit = whyUnfit(kept, settings, ekHash) ?? (await tryLoad(tpm, parent, kept));
    if (typeof unfit === 'object' && 'handle' in unfit) return { tpm, ek, ekHash, ak: unfit, akIsNew: false };
    const event =
      'The AK that was kept cannot be used, a new one is made: the registrar will refuse it for this agent id';
    log.error(event, { reason: unfit });
  }
  return { tpm, ek, ekHash, ak: await createAk(tpm, { ...parent, ...settings.ak }), akIsNew: true };
}

/** Takes the keys out of the TPM, which keeps them otherwise if it has no resource manager, and closes it. */
export async function closeKeys(keys: {
  readonly tpm: Tpm;
  readonly ak: TpmObject;
  readonly ek?: TpmObject | undefined;
}): Promise<void> {
  const { tpm, ak, ek } = keys;
  try {
    await flush(tpm, ak);
    if (ek !== undefined) await flush(tpm, ek);
  } catch {
    // The TPM is gone, and the keys with it.
  }
  await tpm.close();
}

/** The EK: at its persistent handle, or made. */
export const openEk = (tpm: Tpm, settings: TpmSettings): Promise<TpmObject> =>
  settings.ekHandle === undefined
    ? createEk(tpm, settings.ekAlgorithm, { hierarchyAuth: settings.hierarchyAuth })
    : readEk(tpm, settings.ekHandle);

/** Why an AK that was kept is not the one to use. */
function whyUnfit(kept: AgentData, { ak }: TpmSettings, ekHash: string): string | undefined {
  if (kept.ekHash !== ekHash)
    return 'it belongs to another EK: the TPM was cleared or replaced, or tpm_encryption_alg changed';
  if (kept.akHashAlg !== ak.hash) return `it is for tpm_hash_alg = "${kept.akHashAlg}"`;
  if (kept.akSignAlg !== ak.signing) return `it is for tpm_signing_alg = "${kept.akSignAlg}"`;
  return undefined;
}

/** The AK, or why what was kept is none that this TPM takes. Other errors are thrown. */
async function tryLoad(tpm: Tpm, parent: AkParent, kept: AgentData): Promise<Ak | TpmError | DecodeError> {
  try {
    return await loadAk(tpm, { ...parent, public: decode(TpmtPublic, kept.akPublic), private: kept.akPrivate });
  } catch (cause) {
    if (cause instanceof DecodeError) return cause;
    if (cause instanceof TpmError && cause.responseCode.about?.kind === 'parameter') return cause;
    throw cause;
  }
}

/** What to keep of the AK between two starts. */
export const agentDataOf = ({ ak, ekHash }: OpenKeys, settings: TpmSettings): AgentData => ({
  akHashAlg: settings.ak.hash,
  akSignAlg: settings.ak.signing,
  akPublic: encode(TpmtPublic, ak.public),
  akPrivate: ak.private,
  ekHash,
});

/**
 * The EK's certificate and those of its issuers from the TPM, as PEM texts one after the other; "" if there are none
 * [compat], `undefined` if they cannot be read. The issuers come in reverse NV order (spec 02 section 1.2). Nothing is
 * verified, and certificates that are not quite DER are passed on as they are: the registrar decides about them.
 */
export async function readEkCertificates(tpm: Tpm, settings: TpmSettings, log: Log): Promise<string | undefined> {
  const { ekAlgorithm } = settings;
  let ders: readonly Buffer[];
  try {
    const certificate = await readEkCertificate(tpm, ekAlgorithm);
    if (certificate === undefined) log.info('The TPM holds no EK certificate', { ekAlgorithm });
    const chain = await readEkCertificateChain(tpm);
    ders = [...(certificate === undefined ? [] : [certificate]), ...chain.toReversed()];
  } catch (cause) {
    if (!(cause instanceof TpmError)) throw cause;
    log.warn('The EK certificate in the TPM cannot be read, none is registered', { reason: cause });
    return undefined;
  }
  if (ders.some((der) => der[0] !== DER_SEQUENCE)) {
    log.warn('What the TPM holds as EK certificate is none, none is registered', { ekAlgorithm });
    return undefined;
  }
  return ders.map(pem).join('');
}

const DER_SEQUENCE = 0x30;

function pem(der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}
