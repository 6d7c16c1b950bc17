import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { AgentId } from '@keylime/core/agent-id';
import { parseBase64 } from '@keylime/core/base64';
import { codeOf } from '@keylime/core/coded-error';
import { decryptPayload, encryptPayload, IV_BYTES } from '@keylime/payload/encryption';
import { KEY_BYTES, type KeySplit, splitKey } from '@keylime/payload/key-split';
import type { CertificateSettings } from './certificate-plan.ts';
import { parseKeyFile } from './key-file.ts';
import type { Arguments } from './options.ts';
import { TenantError } from './tenant-error.ts';

/** What is handed over in secret: U and the payload to the agent, V and the rest to the verifier. */
export type Delivery = {
  readonly key: KeySplit;
  /** base64 of the encrypted payload; `undefined` delivers the key alone. */
  readonly payload: string | undefined;
  /** PKCS#8 PEM of the key that signs revocation messages, or empty. */
  readonly revocationKey: string;
  /** JSON text about the agent's certificate, `{}` if it gets none. */
  readonly metadata: string;
};

/** A payload that can be delivered as soon as the agent has shown who it is; until then nothing is made of it. */
export type PayloadPlan = { readonly seal: () => Promise<Delivery> };

export type PayloadSettings = {
  /** `max_payload_size`: of the payload in base64. */
  readonly maxPayloadBytes: number;
  readonly certificates: CertificateSettings;
};

const ONE_OF =
  'You must specify one of -k, -f, or --cert to specify the key/contents to be securely delivered to the agent';

/** What is wrong with the payload options together, or `undefined` (spec 07 section 3.3). [compat] The texts. */
export function payloadProblem(given: Arguments): string | undefined {
  const { file, keyFile, caDir, includeDir, payload, verify, pushModel } = given;
  const sources = [file, keyFile, caDir].filter((one) => one !== undefined);
  if (pushModel && (sources.length > 0 || payload !== undefined || includeDir !== undefined || verify)) {
    return 'An agent of the push model takes no payload: leave out -f, -k, -p, --cert, --include and --verify, or --push-model';
  }
  if (verify && sources.length === 0) {
    return '--verify only works when a payload is provided to the agent via -k, -f, or --cert';
  }
  if (sources.length > 1) return ONE_OF;
  if (includeDir !== undefined && caDir === undefined) return '--include option is only valid when used with --cert';
  if (payload !== undefined && keyFile === undefined) {
    return '--payload needs --key: the file with the keys that it is encrypted with. To have a plain file encrypted use -f';
  }
  return undefined;
}

/**
 * Reads and checks what the payload options name, before anybody is asked anything; `undefined` without them.
 * @throws TenantError
 */
export async function planPayload(
  given: Arguments,
  settings: PayloadSettings,
  agentId: () => AgentId,
): Promise<PayloadPlan | undefined> {
  const problem = payloadProblem(given);
  if (problem !== undefined) throw new TenantError('invalid_argument', problem);
  const { maxPayloadBytes } = settings;
  if (given.keyFile !== undefined) return planEncrypted(given.keyFile, given.payload, maxPayloadBytes);
  if (given.file !== undefined) {
    const content = await read(given.file, 'payload');
    checkSize(encodedBytes(content.length), maxPayloadBytes);
    return { seal: async () => ({ ...encrypt(content, maxPayloadBytes), revocationKey: '', metadata: '{}' }) };
  }
  if (given.caDir === undefined) return undefined;
  // Late: what makes certificates is loaded where they are wanted.
  const { planCertificatePackage } = await import('./certificate-plan.ts');
  const plan = await planCertificatePackage(given.caDir, given.includeDir, settings.certificates, agentId());
  return {
    async seal() {
      const { archive, revocationKey, metadata } = await plan.make();
      return { ...encrypt(archive, maxPayloadBytes), revocationKey, metadata };
    },
  };
}

/** Seals for the time of `work`, and overwrites the keys afterwards, whatever came of it. */
export async function withDelivery<T>(
  plan: PayloadPlan | undefined,
  work: (delivery: Delivery | undefined) => Promise<T>,
): Promise<T> {
  const delivery = await plan?.seal();
  try {
    return await work(delivery);
  } finally {
    if (delivery) for (const part of Object.values(delivery.key)) part.fill(0);
  }
}

async function planEncrypted(keyFile: string, payloadFile: string | undefined, maxBytes: number): Promise<PayloadPlan> {
  const text = await read(keyFile, 'key file');
  const key = parseKeyFile(text.toString('latin1'), keyFile);
  text.fill(0);
  const common = { key, revocationKey: '', metadata: '{}' };
  if (payloadFile === undefined) return { seal: async () => ({ ...common, payload: undefined }) };
  const payload = (await read(payloadFile, 'encrypted payload')).toString('latin1').trim();
  checkSize(payload.length, maxBytes);
  const bytes = parseBase64(payload);
  if (bytes === undefined) {
    throw new TenantError(
      'payload_invalid',
      `${payloadFile} is not base64: keylime_userdata_encrypt writes such a file`,
    );
  }
  const opened = decryptPayload(key.k, bytes);
  if (!opened.ok) {
    throw new TenantError('payload_invalid', `The key of ${keyFile} does not open ${payloadFile}: ${opened.problem}`);
  }
  opened.value.fill(0);
  return { seal: async () => ({ ...common, payload }) };
}

/** Encrypts under a new K; the plaintext is overwritten. */
function encrypt(content: Buffer, maxBytes: number): { readonly key: KeySplit; readonly payload: string } {
  checkSize(encodedBytes(content.length), maxBytes);
  const key = splitKey(randomBytes(KEY_BYTES), randomBytes(KEY_BYTES));
  const payload = encryptPayload(key.k, content, randomBytes(IV_BYTES)).toString('base64');
  content.fill(0);
  return { key, payload };
}

const GCM_TAG_BYTES = 16;
const encodedBytes = (plainBytes: number): number => Math.ceil((plainBytes + IV_BYTES + GCM_TAG_BYTES) / 3) * 4;

function checkSize(bytes: number, maxBytes: number): void {
  if (bytes <= maxBytes) return;
  throw new TenantError(
    'payload_invalid',
    `Payload size ${bytes} exceeds max size ${maxBytes}: it is counted encrypted, in base64; see max_payload_size in tenant.conf`,
  );
}

async function read(file: string, what: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    const why = codeOf(cause) ?? cause;
    throw new TenantError('file_unreadable', `Cannot read the ${what} ${file} (${why})`, { cause });
  }
}
