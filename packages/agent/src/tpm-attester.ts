import type { Log } from '@keylime/service/log';
import type { Ak } from '@keylime/tpm/ak';
import { activeBanks, signingAlgorithms } from '@keylime/tpm/capabilities';
import { certify } from '@keylime/tpm/iak';
import { flush, type TpmObject } from '@keylime/tpm/object';
import { encryptionAlgorithm } from '@keylime/tpm/public';
import { quotePcrs } from '@keylime/tpm/quote-device';
import { TpmError } from '@keylime/tpm/response-code';
import type { Tpm } from '@keylime/tpm/tpm';
import { TransportError } from '@keylime/tpm/transport/transport';
import type { AgentData } from './agent-data.ts';
import { AgentError } from './agent-error.ts';
import type { PushAttester } from './attester.ts';
import { closeKeys, type OpenKeys, openEk, openKeys } from './tpm-keys.ts';
import type { TpmSettings } from './tpm-settings.ts';

/** TPM_RC_REFERENCE_H0 (TPM 2.0 Part 2 r1.59, 6.6.3): the first handle leads to nothing that is loaded. */
const TPM_RC_REFERENCE_H0 = 0x910;

/** What registration needs of the TPM. */
export type IdentityKeys = { readonly tpm: Tpm; readonly ek: TpmObject; readonly ak: Ak };

export type TpmAttester = PushAttester & {
  /** Runs `use` with the EK in the TPM, and flushes it afterwards. */
  readonly withIdentityKeys: <T>(use: (keys: IdentityKeys) => Promise<T>) => Promise<T>;
  readonly close: () => Promise<void>;
};

type Open = { readonly tpm: Tpm; readonly ak: Ak };

/**
 * Quotes with the keys of `first`. If the connection to the TPM is lost, or the TPM was restarted and forgot the AK, it is
 * opened anew and the same AK loaded (`kept`): the quote under way is made again once, then it fails and the next one tries.
 */
export function tpmAttester(options: {
  readonly settings: TpmSettings;
  readonly first: OpenKeys;
  readonly kept: AgentData;
  readonly log: Log;
}): TpmAttester {
  const { settings, first, kept, log } = options;
  // One opening at a time, shared by all who wait for it.
  let opening: Promise<Open> | undefined = Promise.resolve(first);
  let akHandle = first.ak.handle;
  // Still in the TPM from the start; whoever takes it flushes it.
  let firstEk: TpmObject | undefined = first.ek;
  const takeFirstEk = (tpm: Tpm) => {
    const ek = tpm === first.tpm ? firstEk : undefined;
    firstEk = undefined;
    return ek;
  };

  const current = (): Promise<Open> => {
    opening ??= reopen().then(
      (open) => {
        akHandle = open.ak.handle;
        log.info('The TPM is open again and the AK loaded');
        return open;
      },
      (cause: unknown) => {
        opening = undefined;
        throw cause;
      },
    );
    return opening;
  };

  const reopen = async (): Promise<Open> => {
    const keys = await openKeys(settings, kept, log);
    if (!keys.akIsNew && keys.ak.name.equals(first.ak.name)) {
      await flush(keys.tpm, keys.ek);
      return { tpm: keys.tpm, ak: keys.ak };
    }
    await closeKeys(keys);
    throw new AgentError(
      'tpm_identity_changed',
      'The TPM is another one, or was cleared, since the agent started: restart the agent to register it anew.',
    );
  };

  const withTpm = async <T>(use: (keys: Open) => Promise<T>): Promise<T> => {
    const source = current();
    const open = await source;
    try {
      return await use(open);
    } catch (cause) {
      if (!isLost(cause)) throw cause;
      if (opening === source) {
        log.warn('The TPM was lost and is opened again', { reason: cause });
        opening = undefined;
        await closeKeys(open);
      }
      return use(await current());
    }
  };

  return {
    hashAlg: settings.ak.hash,
    signAlg: settings.ak.signing,
    encAlg: encryptionAlgorithm(first.ak.public),
    akHandle: () => akHandle,
    quote: (request) => withTpm(({ tpm, ak }) => quotePcrs(tpm, { ak, ...request })),
    certifyAk: (qualifyingData) => withTpm(({ tpm, ak }) => certify(tpm, { object: ak, signer: ak, qualifyingData })),
    abilities: () =>
      withTpm(async ({ tpm, ak }) => ({
        banks: await activeBanks(tpm),
        signing: await signingAlgorithms(tpm),
        ak,
      })),
    withIdentityKeys: (use) =>
      withTpm(async ({ tpm, ak }) => {
        const ek = takeFirstEk(tpm) ?? (await openEk(tpm, settings));
        try {
          return await use({ tpm, ek, ak });
        } finally {
          await flush(tpm, ek).catch((cause: unknown) => log.debug('The EK was not flushed', { reason: cause }));
        }
      }),
    close: async () => {
      const open = await opening?.catch(() => undefined);
      opening = undefined;
      if (open !== undefined) await closeKeys({ ...open, ek: takeFirstEk(open.tpm) });
    },
  };
}

/** Whether a key or the way to the TPM is gone, so that opening it again may help. */
const isLost = (cause: unknown): boolean =>
  cause instanceof TransportError ||
  (cause instanceof TpmError &&
    (cause.code === 'TPM_RC_HANDLE' ||
      cause.code === 'TPM_RC_INITIALIZE' ||
      (cause.responseCode.value & 0xfff) === TPM_RC_REFERENCE_H0));
