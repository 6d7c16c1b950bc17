import { DecodeError } from '@keylime/core/codec';
import type { NonEmpty } from '@keylime/core/non-empty';
import { type Certificate, type CertificateProblem, certificateKey, parseCertificates } from './certificate.ts';
import { basicConstraints, maySignCertificates, OID } from './certificate-extensions.ts';

/** Certificates of TPM vendors' CAs that the operator trusts: roots, or intermediates taken as roots. */
export type TrustAnchors = {
  readonly certificates: readonly Certificate[];
  /** Blocks that are no certificate; `index` counts the blocks of the file from 0. */
  readonly problems: readonly { readonly file: string; readonly index: number; readonly problem: CertificateProblem }[];
};

/** Every certificate of every PEM text. The caller reads the `*.pem` files of the store and passes name and text. */
export function readTrustAnchors(files: readonly { readonly name: string; readonly text: string }[]): TrustAnchors {
  const certificates: Certificate[] = [];
  const problems: TrustAnchors['problems'][number][] = [];
  for (const { name, text } of files) {
    for (const [index, parsed] of parseCertificates(text).entries()) {
      if (parsed.ok) certificates.push(parsed.value);
      else problems.push({ file: name, index, problem: parsed.problem });
    }
  }
  return { certificates, problems };
}

/** Why an endorsement is not accepted. Names are as `x509.subject` prints them. */
export type EndorsementProblem =
  | { readonly kind: 'no_anchors' }
  | { readonly kind: 'issuer_unknown'; readonly issuer: string }
  | { readonly kind: 'signature_wrong'; readonly issuer: string }
  | { readonly kind: 'signature_algorithm_refused'; readonly algorithm: string }
  | { readonly kind: 'issuer_not_ca'; readonly issuer: string }
  | { readonly kind: 'issuer_key_usage'; readonly issuer: string }
  | { readonly kind: 'path_too_long'; readonly issuer: string }
  | { readonly kind: 'critical_extension_unknown'; readonly issuer: string; readonly extension: string }
  | { readonly kind: 'certificate_malformed'; readonly detail: string };

/** What an operator should know of an accepted endorsement. */
export type EndorsementWarning =
  | { readonly kind: 'expired'; readonly subject: string; readonly notAfter: Date }
  | { readonly kind: 'not_yet_valid'; readonly subject: string; readonly notBefore: Date }
  | { readonly kind: 'weak_signature'; readonly subject: string; readonly algorithm: string }
  | { readonly kind: 'anchor_without_constraints'; readonly subject: string };

export type Endorsement =
  | { readonly ok: true; readonly chain: NonEmpty<Certificate>; readonly warnings: readonly EndorsementWarning[] }
  | { readonly ok: false; readonly problem: EndorsementProblem };

/** RSA PKCS#1 v1.5, RSASSA-PSS and ECDSA (RFC 3279, 4055, 5758). `weak`: SHA-1, still found under old TPMs' roots. */
const SIGNATURE_ALGORITHMS: ReadonlyMap<string, 'good' | 'weak'> = new Map([
  ['1.2.840.113549.1.1.5', 'weak'],
  ['1.2.840.113549.1.1.10', 'good'],
  ['1.2.840.113549.1.1.11', 'good'],
  ['1.2.840.113549.1.1.12', 'good'],
  ['1.2.840.113549.1.1.13', 'good'],
  ['1.2.840.10045.4.1', 'weak'],
  ['1.2.840.10045.4.3.2', 'good'],
  ['1.2.840.10045.4.3.3', 'good'],
  ['1.2.840.10045.4.3.4', 'good'],
]);

/** Extensions of a CA that this code honours or that restrict nothing that it decides. */
const UNDERSTOOD = new Set<string>([
  OID.subjectKeyIdentifier,
  OID.keyUsage,
  OID.subjectAltName,
  OID.issuerAltName,
  OID.basicConstraints,
  OID.crlDistributionPoints,
  OID.certificatePolicies,
  OID.authorityKeyIdentifier,
  OID.extendedKeyUsage,
]);

const MAX_CHAIN = 8;
const MAX_SIGNATURE_CHECKS = 64;

/** Why `issuer` may not sign a certificate with `below` CA certificates under it (RFC 5280 6.1.4). @throws DecodeError */
function issuerProblem(issuer: Certificate, isAnchor: boolean, below: number): EndorsementProblem | undefined {
  const name = issuer.x509.subject;
  for (const [extension, { critical }] of issuer.extensions) {
    if (critical && !UNDERSTOOD.has(extension)) return { kind: 'critical_extension_unknown', issuer: name, extension };
  }
  const constraints = basicConstraints(issuer);
  const oldRoot = isAnchor && issuer.extensions.size === 0; // X.509 v1 knows no constraints; the operator vouches for it
  if (constraints === undefined ? !oldRoot : !constraints.ca) return { kind: 'issuer_not_ca', issuer: name };
  if (!maySignCertificates(issuer)) return { kind: 'issuer_key_usage', issuer: name };
  if (constraints !== undefined && below > constraints.pathLength) return { kind: 'path_too_long', issuer: name };
  return undefined;
}

/** Whether the key of `issuer` signed `certificate`, over the bytes as they were received. */
function signatureVerifies(certificate: Certificate, issuer: Certificate): boolean {
  const key = certificateKey(issuer);
  try {
    return key !== undefined && certificate.x509.verify(key);
  } catch (error) {
    if (error instanceof Error) return false; // a key of another type than the signature
    throw error;
  }
}

function warningsOf(chain: NonEmpty<Certificate>, now: Date): EndorsementWarning[] {
  return chain.flatMap((certificate, i): EndorsementWarning[] => {
    const { notBefore, notAfter, signatureAlgorithm, extensions } = certificate;
    const subject = certificate.x509.subject;
    const isAnchor = i === chain.length - 1;
    const weak = !isAnchor && SIGNATURE_ALGORITHMS.get(signatureAlgorithm) === 'weak';
    return [
      ...(now > notAfter ? [{ kind: 'expired', subject, notAfter } as const] : []),
      ...(now < notBefore ? [{ kind: 'not_yet_valid', subject, notBefore } as const] : []),
      ...(weak ? [{ kind: 'weak_signature', subject, algorithm: signatureAlgorithm } as const] : []),
      ...(isAnchor && extensions.size === 0 ? [{ kind: 'anchor_without_constraints', subject } as const] : []),
    ];
  });
}

/**
 * Verifies that `certificate` (of an EK, IAK or IDevID) was issued under one of `anchors`, directly or through
 * `intermediates`, which are untrusted. The chain runs from the certificate to its anchor. Expiry is a warning, since EK
 * certificates outlive their dates; revocation and the use of the certificate's key are not checked.
 * The first problem found is returned; nothing verified is returned with a problem.
 */
export function verifyEndorsement(given: {
  readonly certificate: Certificate;
  readonly intermediates: readonly Certificate[];
  readonly anchors: readonly Certificate[];
  readonly now: Date;
}): Endorsement {
  if (given.anchors.length === 0) return { ok: false, problem: { kind: 'no_anchors' } };
  let problem: EndorsementProblem | undefined;
  let checksLeft = MAX_SIGNATURE_CHECKS;

  const extend = (chain: NonEmpty<Certificate>): NonEmpty<Certificate> | undefined => {
    const last = chain.at(-1) ?? chain[0];
    const algorithm = last.signatureAlgorithm;
    if (!SIGNATURE_ALGORITHMS.has(algorithm)) {
      problem ??= { kind: 'signature_algorithm_refused', algorithm };
      return undefined;
    }
    for (const { issuer, isAnchor } of [
      ...given.anchors.map((anchor) => ({ issuer: anchor, isAnchor: true })),
      ...(chain.length < MAX_CHAIN ? given.intermediates.map((one) => ({ issuer: one, isAnchor: false })) : []),
    ]) {
      if (!issuer.subject.equals(last.issuer) || (!isAnchor && chain.includes(issuer))) continue;
      if (checksLeft-- <= 0) return undefined;
      const found = signatureVerifies(last, issuer)
        ? issuerProblem(issuer, isAnchor, chain.length - 1)
        : ({ kind: 'signature_wrong', issuer: issuer.x509.subject } as const);
      if (found !== undefined) {
        problem ??= found;
        continue;
      }
      const longer: NonEmpty<Certificate> = [...chain, issuer];
      const complete = isAnchor ? longer : extend(longer);
      if (complete !== undefined) return complete;
    }
    problem ??= { kind: 'issuer_unknown', issuer: last.x509.issuer };
    return undefined;
  };

  try {
    const chain = extend([given.certificate]);
    if (chain !== undefined) return { ok: true, chain, warnings: warningsOf(chain, given.now) };
    return { ok: false, problem: problem ?? { kind: 'issuer_unknown', issuer: given.certificate.x509.issuer } };
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    return { ok: false, problem: { kind: 'certificate_malformed', detail: error.message } };
  }
}

/** `problem` in words, for operators. */
export function endorsementProblemText(problem: EndorsementProblem): string {
  switch (problem.kind) {
    case 'no_anchors':
      return 'the trust store holds no certificate';
    case 'issuer_unknown':
      return `no certificate of the trust store is the issuer '${oneLine(problem.issuer)}'`;
    case 'signature_wrong':
      return `the signature is not by the key of '${oneLine(problem.issuer)}'`;
    case 'signature_algorithm_refused':
      return `signature algorithm ${problem.algorithm} is not accepted`;
    case 'issuer_not_ca':
      return `the issuer '${oneLine(problem.issuer)}' is not a CA`;
    case 'issuer_key_usage':
      return `the issuer '${oneLine(problem.issuer)}' may not sign certificates`;
    case 'path_too_long':
      return `more CAs under '${oneLine(problem.issuer)}' than it allows`;
    case 'critical_extension_unknown':
      return `the issuer '${oneLine(problem.issuer)}' has the unknown critical extension ${problem.extension}`;
    case 'certificate_malformed':
      return `a certificate is malformed: ${problem.detail}`;
  }
}

/** `warning` in words, for operators. */
export function endorsementWarningText(warning: EndorsementWarning): string {
  switch (warning.kind) {
    case 'expired':
      return `certificate '${oneLine(warning.subject)}' expired on ${warning.notAfter.toISOString()}`;
    case 'not_yet_valid':
      return `certificate '${oneLine(warning.subject)}' is valid from ${warning.notBefore.toISOString()} only`;
    case 'weak_signature':
      return `certificate '${oneLine(warning.subject)}' is signed with SHA-1`;
    case 'anchor_without_constraints':
      return `the trusted certificate '${oneLine(warning.subject)}' is of an old version that cannot say it is a CA`;
  }
}

/** node:crypto prints one RDN a line; for an empty subject it gives `undefined`. */
const oneLine = (name: string | undefined): string => (name ?? '').replace(/\s*\n\s*/g, ', ');
