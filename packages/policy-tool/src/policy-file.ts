import type { KeyObject } from 'node:crypto';
import { type Json, parseJson } from '@keylime/core/json';
import { isEnvelope, parseEnvelope, parsePolicyKey, verifyEnvelope } from '@keylime/policies/dsse';
import { decodeRuntimePolicy, type RuntimePolicy } from '@keylime/policies/runtime-policy';
import { readInput, readJson } from './files.ts';
import { ToolError } from './tool-error.ts';

/** A runtime policy of a file, valid, and its signature good if it has one. */
export type PolicyFile = {
  /** JSON text of the policy, taken out of its envelope. */
  readonly text: string;
  readonly json: Json;
  readonly policy: RuntimePolicy;
  readonly isSigned: boolean;
};

/**
 * Reads a runtime policy, signed or not. A signed one is of use only with the key that it was signed with.
 * @throws ToolError `file_unreadable`, `policy_invalid`, `policy_signature`, `key_invalid`
 */
export async function readPolicy(file: string, keyFiles: readonly string[] = []): Promise<PolicyFile> {
  const outer = await readJson(file, 'policy');
  const isSigned = isEnvelope(outer.json);
  const text = isSigned ? await openSigned(file, outer.text, keyFiles) : outer.text;
  const decoded = decodeRuntimePolicy(text);
  if (!decoded.ok) {
    const problems = decoded.problem
      .slice(0, 10)
      .map(({ message, path }) => `${message} at ${path.join('.') || 'the top'}`);
    throw new ToolError('policy_invalid', `${file} is not a valid runtime policy: ${problems.join('; ')}`);
  }
  return { text, json: parseJson(text) ?? null, policy: decoded.value, isSigned };
}

async function openSigned(file: string, text: string, keyFiles: readonly string[]): Promise<string> {
  if (keyFiles.length === 0) {
    throw new ToolError('policy_signature', `${file} is signed: name the public key of its signer with --key`);
  }
  const keys = await Promise.all(keyFiles.map(readPolicyKey));
  const envelope = parseEnvelope(text);
  if (!envelope.ok) throw new ToolError('policy_invalid', `${file} is not a valid DSSE envelope: ${envelope.problem}`);
  if (!verifyEnvelope(envelope.value, keys)) {
    throw new ToolError('policy_signature', `The signature of ${file} is not by ${keyFiles.join(' or ')}`);
  }
  return envelope.value.payload.toString('utf8');
}

async function readPolicyKey(file: string): Promise<KeyObject> {
  const key = parsePolicyKey((await readInput(file, 'key')).toString('latin1'));
  if (key.ok) return key.value;
  throw new ToolError('key_invalid', `The key ${file} cannot be used: ${key.problem}`);
}
