import { access } from 'node:fs/promises';
import { openDevice } from './transport/device.ts';
import { openMssim } from './transport/mssim.ts';
import { openSwtpm } from './transport/swtpm.ts';
import { type Transport, TransportError } from './transport/transport.ts';

/** A way to a TPM as the variable TCTI names it. */
export type Tcti =
  | { readonly kind: 'device'; readonly path: string }
  | { readonly kind: 'swtpm' | 'mssim'; readonly host: string; readonly port: number }
  | { readonly kind: 'swtpm_unix'; readonly path: string };

const SYNTAX = 'device:/dev/tpmrm0, swtpm:host=H,port=P, swtpm:path=/SOCKET or mssim:host=H,port=P';

const malformed = (text: string, problem: string) =>
  new TransportError('tcti_malformed', `TCTI "${text}": ${problem}; wanted ${SYNTAX}`);

function parseSettings(text: string, rest: string, known: readonly string[]): Readonly<Record<string, string>> {
  const settings: Record<string, string> = {};
  for (const part of rest.split(',').filter((one) => one !== '')) {
    const [, name = '', value = ''] = /^([a-z_]+)=(.+)$/.exec(part) ?? [];
    if (!known.includes(name))
      throw malformed(text, `"${part}" is none of ${known.map((one) => `${one}=...`).join(', ')}`);
    settings[name] = value;
  }
  return settings;
}

/**
 * Reads TCTI: the syntax that tpm2-tss uses. Host and port are `localhost` and 2321 by default.
 * @throws TransportError `tcti_malformed`, or `tcti_unsupported` for a kind that this program does not have (tabrmd).
 */
export function parseTcti(text: string): Tcti {
  const colon = text.indexOf(':');
  const kind = colon < 0 ? text : text.slice(0, colon);
  const rest = colon < 0 ? '' : text.slice(colon + 1);
  switch (kind) {
    case 'device':
      return { kind, path: rest === '' ? '/dev/tpm0' : rest };
    case 'swtpm':
    case 'mssim': {
      const known = kind === 'swtpm' ? ['host', 'port', 'path'] : ['host', 'port'];
      const { path, host = 'localhost', port = '2321' } = parseSettings(text, rest, known);
      if (path !== undefined) return { kind: 'swtpm_unix', path };
      const number = /^\d{1,5}$/.test(port) ? Number(port) : 0;
      if (number < 1 || number > 65534) throw malformed(text, `port ${port} is not within 1 and 65534`);
      return { kind, host, port: number };
    }
    case 'tabrmd': {
      const advice = 'the resource manager tabrmd is not supported; the kernel has one: use device:/dev/tpmrm0';
      throw new TransportError('tcti_unsupported', `TCTI "${text}": ${advice}`);
    }
    default:
      throw malformed(text, `"${kind}" is not known`);
  }
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** Opens the TPM that `tcti` names; without a name `/dev/tpmrm0`, or `/dev/tpm0` where that is missing. @throws TransportError */
export async function openTransport(tcti: string | undefined): Promise<Transport> {
  if (tcti === undefined || tcti === '') {
    return openDevice((await exists('/dev/tpmrm0')) || !(await exists('/dev/tpm0')) ? '/dev/tpmrm0' : '/dev/tpm0');
  }
  const parsed = parseTcti(tcti);
  switch (parsed.kind) {
    case 'device':
      return openDevice(parsed.path);
    case 'swtpm':
      return openSwtpm(parsed);
    case 'swtpm_unix':
      return openSwtpm({ path: parsed.path });
    case 'mssim':
      return openMssim(parsed);
  }
}
