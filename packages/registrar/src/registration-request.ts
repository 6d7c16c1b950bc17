import type { RegistrationField } from '@keylime/api/registrar/registration';
import { parseBase64, parseHex } from '@keylime/core/base64';
import { isJsonObject, type Json } from '@keylime/core/json';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { certificatePem, parseCertificates } from '@keylime/identity/certificate';
import type { Registration, RegistrationRequest } from './registration.ts';

/** A field that has not its type (spec 02 section 2.3, R1). */
export type FieldProblem = {
  readonly kind: 'field_malformed';
  readonly field: RegistrationField;
  readonly detail: string;
};

type Field<T> = Parsed<T | null | undefined, string>;
type Body = { readonly [key: string]: Json };

const MAX_INTERMEDIATES = 8;

/** Text, `null` for null and for `""`, `undefined` for a field that is not there. */
function textField(body: Body, name: RegistrationField): Field<string> {
  const value = Object.hasOwn(body, name) ? body[name] : undefined;
  if (value === undefined) return good(undefined);
  if (value === null || value === '') return good(null);
  return typeof value === 'string' ? good(value) : bad('text wanted');
}

/** Bytes of strict base64 or, failing that, hex with optional `0x`. */
function bytesField(body: Body, name: RegistrationField): Field<Buffer> {
  const text = textField(body, name);
  if (!text.ok || typeof text.value !== 'string') return text as Field<never>;
  const bytes = parseBase64(text.value) ?? parseHex(text.value.replace(/^0[xX]/, ''));
  return bytes === undefined ? bad('base64 wanted') : good(bytes);
}

/** The bytes of certificates, the agent's own first. */
function certificatesField(body: Body, name: RegistrationField): Field<readonly [Buffer, ...Buffer[]]> {
  const text = textField(body, name);
  if (!text.ok || typeof text.value !== 'string') return text as Field<never>;
  const [own, ...others] = parseCertificates(text.value);
  if (own === undefined || !own.ok) return bad(own === undefined ? 'no certificate in it' : own.problem.detail);
  const intermediates = others.flatMap((one) => (one.ok ? [one.value.der] : []));
  return good([own.value.der, ...intermediates.slice(0, MAX_INTERMEDIATES)]);
}

function mtlsField(body: Body): Field<string> {
  const text = textField(body, 'mtls_cert');
  if (text.ok && text.value?.toLowerCase() === 'disabled') return good('disabled');
  const certificates = certificatesField(body, 'mtls_cert');
  return certificates.ok && certificates.value
    ? good(certificatePem(certificates.value[0]))
    : (certificates as Field<never>);
}

/** An address or a host name; which of both, and whether it is reachable, is for those who connect. */
function ipField(body: Body): Field<string> {
  const text = textField(body, 'ip');
  if (!text.ok || typeof text.value !== 'string') return text;
  return /^[A-Za-z0-9_.:%[\]-]{1,255}$/.test(text.value) ? text : bad('IP address or host name wanted');
}

function portField(body: Body): Field<number> {
  const value = Object.hasOwn(body, 'port') ? body.port : undefined;
  if (value === undefined) return good(undefined);
  if (value === null || value === '') return good(null);
  const port = typeof value === 'string' && /^\d{1,5}$/.test(value) ? Number(value) : value;
  return typeof port === 'number' && Number.isInteger(port) && port >= 0 && port <= 65535
    ? good(port)
    : bad('number from 0 to 65535 wanted');
}

/**
 * The registration in a request's JSON body (spec 01 section 4.2), or every field that is malformed. Only forms are looked
 * at: what the fields mean is for `registration-checks.ts`.
 */
export function parseRegistration(body: unknown): Parsed<RegistrationRequest, readonly FieldProblem[]> {
  const given: Body = isJsonObject(body) ? body : {};
  const problems: FieldProblem[] = [];
  const take = <T>(field: RegistrationField, parsed: Field<T>): T | null | undefined => {
    if (parsed.ok) return parsed.value;
    problems.push({ kind: 'field_malformed', field, detail: parsed.problem });
    return undefined;
  };
  const bytes = (field: RegistrationField) => take(field, bytesField(given, field));
  const certificates = (field: RegistrationField) => take(field, certificatesField(given, field));

  const ekCertificates = certificates('ekcert');
  const iakCertificates = certificates('iak_cert');
  const idevidCertificates = certificates('idevid_cert');
  const fields = withoutUndefined({
    ekPublic: bytes('ek_tpm'),
    ekCertificate: own(ekCertificates),
    ekIntermediates: ekCertificates === undefined ? undefined : (ekCertificates?.slice(1) ?? []),
    akPublic: bytes('aik_tpm'),
    iakPublic: bytes('iak_tpm'),
    iakCertificate: own(iakCertificates),
    idevidPublic: bytes('idevid_tpm'),
    idevidCertificate: own(idevidCertificates),
    ip: take('ip', ipField(given)),
    port: take('port', portField(given)),
    mtlsCertificate: take('mtls_cert', mtlsField(given)),
  });
  const iakAttest = bytes('iak_attest') ?? null;
  const iakSignature = bytes('iak_sign') ?? null;
  const deviceIntermediates = [...(iakCertificates?.slice(1) ?? []), ...(idevidCertificates?.slice(1) ?? [])];
  return problems.length > 0 ? bad(problems) : good({ fields, iakAttest, iakSignature, deviceIntermediates });
}

/** A cleared field stays null, one that is not there stays undefined. */
const own = (certificates: readonly [Buffer, ...Buffer[]] | null | undefined) =>
  certificates === null ? null : certificates?.[0];

const withoutUndefined = (fields: { readonly [K in keyof Registration]: Registration[K] | undefined }) =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<Registration>;
