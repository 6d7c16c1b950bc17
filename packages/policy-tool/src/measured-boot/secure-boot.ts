import { SIGNATURE_TYPES, VARIABLE_GUIDS } from '@keylime/event-log/guid';
import type { EfiSignatureList } from '@keylime/event-log/signature-list';
import type { UefiVariable } from '@keylime/event-log/uefi-variable';
import { certificateName } from './certificate-name.ts';
import { believedData, type EventView } from './event-view.ts';

/** A signature database: names of certificates, and how many hashes. */
export type KeySummary = { readonly certificates: readonly string[]; readonly hashes: number };

/** What covered events of PCR 7 say. */
export type SecureBootSummary = {
  /** `undefined` where no covered event says it. */
  readonly enabled: boolean | undefined;
  readonly databases: ReadonlyMap<string, KeySummary>;
  /** What let images start, in the order of the log. */
  readonly authorities: readonly { readonly variable: string; readonly name: string }[];
  /** The generations that shim demands, as `sbat,1,2025021800`. */
  readonly sbatLevel: string | undefined;
};

const SECURE_BOOT_PCR = 7;

export function summarizeSecureBoot(views: readonly EventView[]): SecureBootSummary {
  let enabled: boolean | undefined;
  let sbatLevel: string | undefined;
  const databases = new Map<string, KeySummary>();
  const authorities: { variable: string; name: string }[] = [];
  for (const view of views) {
    const variable = believedVariable(view);
    if (variable === undefined) continue;
    const { value, name, guid } = variable;
    if (value.kind === 'switch' && name === 'SecureBoot' && guid === VARIABLE_GUIDS.global) enabled ??= value.on;
    else if (value.kind === 'signature_database') databases.set(name, summarizeKeys(value.lists));
    else if (value.kind === 'authority') {
      authorities.push({ variable: name, name: certificateName(value.data) ?? value.data.toString('hex') });
    } else if (value.kind === 'text' && name === 'SbatLevel') sbatLevel = value.text;
  }
  return { enabled, databases, authorities, sbatLevel };
}

/** The variable of an event of PCR 7 whose name and value all digests cover. */
function believedVariable(view: EventView): UefiVariable | undefined {
  if (view.event.pcr !== SECURE_BOOT_PCR) return undefined;
  const data = believedData(view);
  return data?.kind === 'variable' ? data : undefined;
}

function summarizeKeys(lists: readonly EfiSignatureList[]): KeySummary {
  const certificates: string[] = [];
  let hashes = 0;
  for (const { type, signatures } of lists) {
    if (type !== SIGNATURE_TYPES.x509) hashes += signatures.length;
    else
      for (const { data } of signatures) certificates.push(certificateName(data) ?? 'certificate that cannot be read');
  }
  return { certificates, hashes };
}
