import { stat } from 'node:fs/promises';
import { codeOf } from '@keylime/core/coded-error';
import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import type { CaOptions } from '@keylime/pki/ca-options';
import { type CaFolder, hasCa } from '@keylime/pki/open-ca';
import { revokeMachine } from '@keylime/pki/revocation';
import type { Log } from '@keylime/service/log';
import { type Deliver, UndeliverableError } from './notifier.ts';
import type { Delivery } from './outbox.ts';

export type CrlChannelSettings = {
  /** Of the tenant's CA. */
  readonly dir: string;
  /** Asked at each delivery. @throws PasswordError */
  readonly password: () => string;
  readonly options: CaOptions;
  /**
   * `required`: tried until it is done. `if_present`: where there is no CA, or one that this program cannot use, others have
   * to see to it, who are told.
   */
  readonly use: 'required' | 'if_present';
};

/** The certificate in the notification came from another CA. */
const FOREIGN: readonly unknown[] = ['subject_mismatch', 'invalid_serial'];
/** The CA is somebody else's to use. */
const CLOSED: readonly unknown[] = ['wrong_password', 'no_password', 'ca_incomplete', 'EACCES', 'EPERM', 'EROFS'];

/** Puts the payload certificates of revoked machines on the CRL of the CA in `dir`. */
export function crlChannel({ dir, password, options, use }: CrlChannelSettings, log: Log): Deliver {
  return async (delivery) => {
    const { agentId: agent } = delivery;
    try {
      if (use === 'if_present' && !(await isPresent(dir, agent, log))) return;
      const serials = await deliverToCrl({ dir, password: password(), options }, delivery);
      if (serials.length > 0) log.warn('Certificates were revoked', { agent, serials: serials.join() });
    } catch (error) {
      const code = codeOf(error);
      const isFinal = FOREIGN.includes(code) || (use === 'if_present' && CLOSED.includes(code));
      if (!isFinal || !(error instanceof Error)) throw error;
      throw new UndeliverableError(error.message, { cause: error });
    }
  };
}

/** Whether there is a CA of this user's. @throws UndeliverableError if it is another user's, whose files these would not stay */
async function isPresent(dir: string, agent: string, log: Log): Promise<boolean> {
  if (!(await hasCa(dir))) {
    log.warn('The certificate of a revoked machine is on no CRL: there is no CA here', { agent, crl_dir: dir });
    return false;
  }
  if ((await stat(dir)).uid === process.geteuid?.()) return true;
  throw new UndeliverableError(`${dir} belongs to another user: run "keylime_ca revoke -n ${agent}" as that one`);
}

/**
 * Puts the payload certificate of a revoked machine on the CRL of the CA in `folder`, which is the tenant's one (06 section
 * 4.6 of the reference). Safe to repeat. Machines without a certificate, and those that are only out of reach, have nothing
 * to be revoked. @returns the serial numbers that are on the CRL now because of this delivery
 * @throws PkiError; `subject_mismatch` and `invalid_serial` say that the certificate came from another CA
 */
export async function deliverToCrl(folder: CaFolder, { body }: Pick<Delivery, 'body'>): Promise<readonly string[]> {
  const message = objectIn(objectIn(body)?.msg);
  if (message?.type !== 'revocation') return [];
  const certificate = certificateIn(message.meta_data);
  return certificate === undefined ? [] : (await revokeMachine(folder, certificate)).added;
}

/** Serial number and subject of a machine's certificate in the `metadata` of its enrolment, JSON text. */
export function certificateIn(metadata: Json | undefined): { serial: string; subject: string } | undefined {
  const { cert_serial: serial, subject } = objectIn(metadata) ?? {};
  if (typeof serial !== 'number' || !Number.isSafeInteger(serial) || typeof subject !== 'string') return undefined;
  return { serial: String(serial), subject };
}

function objectIn(text: Json | undefined): { readonly [key: string]: Json } | undefined {
  const value = typeof text === 'string' ? parseJson(text) : undefined;
  return isJsonObject(value) ? value : undefined;
}
