import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import type { CaFolder } from '@keylime/pki/open-ca';
import { revokeMachine } from '@keylime/pki/revocation';
import type { Delivery } from './outbox.ts';

/**
 * Puts the payload certificate of a revoked machine on the CRL of the CA in `folder`, which is the tenant's one (06 section
 * 4.6 of the reference). Safe to repeat. Machines without a certificate, and those that are only out of reach, have nothing
 * to be revoked. @returns the serial numbers that are on the CRL now because of this delivery
 * @throws PkiError; `subject_mismatch` and `invalid_serial` say that the certificate came from another CA
 */
export async function deliverToCrl(folder: CaFolder, { body }: Pick<Delivery, 'body'>): Promise<readonly string[]> {
  const message = objectIn(objectIn(body)?.msg);
  if (message?.type !== 'revocation') return [];
  const metadata = objectIn(message.meta_data);
  const { cert_serial: serial, subject } = metadata ?? {};
  if (typeof serial !== 'number' || !Number.isSafeInteger(serial) || typeof subject !== 'string') return [];
  const { added } = await revokeMachine(folder, { serial: String(serial), subject });
  return added;
}

function objectIn(text: Json | undefined): { readonly [key: string]: Json } | undefined {
  const value = typeof text === 'string' ? parseJson(text) : undefined;
  return isJsonObject(value) ? value : undefined;
}
