import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { codeOf } from '@keylime/core/coded-error';
import { parseJson } from '@keylime/core/json';
import { parseEnvelope, parsePolicyKey, verifyEnvelope } from '@keylime/policies/dsse';
import { policyWarnings } from '@keylime/policies/policy-warnings';
import { decodeStoredPolicy, isSignedPolicy } from '@keylime/policies/runtime-policy';
import type { Log } from '@keylime/service/log';
import { excerpt } from './output.ts';
import { TenantError } from './tenant-error.ts';

/** A policy and, if it is signed, the key that signed it, as they are sent to the verifier. */
export type PolicyFile = { readonly policy: Buffer; readonly key: Buffer };

export type PolicySource = {
  readonly file?: string | undefined;
  readonly url?: string | undefined;
  readonly checksum?: string | undefined;
  readonly signatureKeyFile?: string | undefined;
};

const MAX_POLICY_BYTES = 100 * 1024 * 1024;

/**
 * Reads or downloads a runtime policy and checks it before anything is sent. [MUST] Its SHA-256 must be the checksum, if
 * one was given; a signed policy must be signed by the key that was given, and a key must not be given in vain.
 * @throws TenantError `file_unreadable`, `download_failed`, `policy_checksum`, `policy_signature`, `policy_invalid`
 */
export async function readRuntimePolicy(source: PolicySource, timeoutMs: number, log: Log): Promise<PolicyFile> {
  const name = source.url ?? source.file ?? '';
  const policy = source.url
    ? await downloadFile(source.url, 'IMA policy', timeoutMs, log)
    : await readInput(name, 'runtime policy');
  checkChecksum(policy, source.checksum);
  const text = policy.toString('utf8');
  const json = parseJson(text);
  if (json === undefined) throw invalid(name, 'Runtime policy is not valid JSON!');
  if (isSignedPolicy(json)) {
    if (!source.signatureKeyFile) {
      throw signature(
        'Runtime policy signature verification required but no key was given! Name it with --runtime-policy-sig-key',
      );
    }
    const key = await readInput(source.signatureKeyFile, 'key of the runtime policy');
    checkSignature(name, text, key.toString('utf8'));
    checkContent(name, text, log);
    return { policy, key };
  }
  if (source.signatureKeyFile) {
    throw signature('Runtime policy is not signed! Leave --runtime-policy-sig-key out, or sign the policy first');
  }
  checkContent(name, text, log);
  return { policy, key: Buffer.alloc(0) };
}

/** [MUST] The signature is looked at before anything is sent: a verifier may be set up not to look. */
function checkSignature(name: string, text: string, keyPem: string): void {
  const key = parsePolicyKey(keyPem);
  if (!key.ok) throw signature(`The key of the runtime policy cannot be used: ${key.problem}`);
  const envelope = parseEnvelope(text);
  if (!envelope.ok) throw signature(`${name} is a malformed DSSE envelope: ${envelope.problem}`);
  if (!verifyEnvelope(envelope.value, [key.value])) {
    throw signature(
      `Runtime policy failed DSSE signature verification! ${name} is not signed by the key that was given`,
    );
  }
}

/** An exclude pattern that this program refuses may still suit the verifier's regular expressions: only a warning. */
function checkContent(name: string, text: string, log: Log): void {
  const decoded = decodeStoredPolicy(text);
  if (decoded.ok) {
    for (const warning of policyWarnings(decoded.value)) log.warn(`${name}: ${warning}`);
    return;
  }
  const [first, ...more] = decoded.problem.filter(({ kind }) => kind !== 'exclude');
  if (first !== undefined) {
    const where = first.path.length > 0 ? ` (at ${first.path.join('.')})` : '';
    const others = more.length > 0 ? ` (and ${more.length} more problems)` : '';
    throw invalid(name, `Runtime policy is malformatted: ${first.message}${where}${others}`);
  }
  for (const { message } of decoded.problem) log.warn(`${name}: the verifier may refuse this policy: ${message}`);
}

/** Compares in any case and with or without `sha256:` in front, as tools print it. */
function checkChecksum(policy: Buffer, expected: string | undefined): void {
  if (!expected) return;
  const calculated = createHash('sha256').update(policy).digest('hex');
  if (expected.toLowerCase().replace(/^sha256:/, '') === calculated) return;
  throw new TenantError(
    'policy_checksum',
    `Checksum of runtime policy does not match! Expected ${excerpt(expected, 200)}, Calculated ${calculated}`,
  );
}

/** The bytes of a file that the operator named. */
export async function readInput(file: string, what: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new TenantError('file_unreadable', `Cannot read the ${what} ${file}: ${reason(cause)}`, { cause });
  }
}

/** The bytes of a file at an http or https address; redirects are not followed. @throws TenantError `download_failed` */
export async function downloadFile(url: string, what: string, timeoutMs: number, log: Log): Promise<Buffer> {
  const failed = (why: string, cause?: unknown) =>
    new TenantError('download_failed', `Downloading the ${what} from ${url} failed: ${why}`, { cause });
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) throw failed('it is no http or https address');
  log.info(`Downloading ${what} from ${url}`);
  try {
    // The system's CAs decide about this server; what it sends must have the checksum anyway.
    const answer = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(timeoutMs) });
    if (answer.status !== 200) throw failed(`the server answered ${answer.status}`);
    const parts: Uint8Array[] = [];
    let size = 0;
    for await (const part of answer.body ?? []) {
      size += part.length;
      if (size > MAX_POLICY_BYTES) throw failed(`it is larger than ${MAX_POLICY_BYTES} bytes`);
      parts.push(part);
    }
    return Buffer.concat(parts);
  } catch (error) {
    if (error instanceof TenantError) throw error;
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    throw failed(reason(cause), error);
  }
}

const invalid = (name: string, why: string): TenantError =>
  new TenantError('policy_invalid', `Validation for runtime policy ${name} failed! Error: ${why}`);

const signature = (why: string): TenantError => new TenantError('policy_signature', why);

const reason = (error: unknown): string =>
  codeOf(error) === 'ENOENT'
    ? 'there is no such file'
    : excerpt(error instanceof Error ? error.message : String(error));
