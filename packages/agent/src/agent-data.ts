import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { bad, good, type Parsed } from '@keylime/core/parsed';

/** Names of algorithms in agent_data.json by the names that the rest of Keylime uses. */
const HASH_NAMES = { sha1: 'Sha1', sha256: 'Sha256', sha384: 'Sha384', sha512: 'Sha512', sm3_256: 'Sm3_256' } as const;
const SIGN_NAMES = { rsassa: 'RsaSsa', rsapss: 'RsaPss', ecdsa: 'EcDsa', ecschnorr: 'EcSchnorr' } as const;

export type AgentHashAlg = keyof typeof HASH_NAMES;
export type AgentSignAlg = keyof typeof SIGN_NAMES;

/**
 * The AK as it is kept between two starts: the TPM alone can load it, and only under the EK that wrapped it. The file is
 * shared with the existing agent (spec 02 section 1.3).
 */
export type AgentData = {
  readonly akHashAlg: AgentHashAlg;
  readonly akSignAlg: AgentSignAlg;
  /** TPMT_PUBLIC. */
  readonly akPublic: Buffer;
  /** Content of TPM2B_PRIVATE, without its size. */
  readonly akPrivate: Buffer;
  /** Lower-case hex of 64 digits: `hashEk` of the EK that the AK was made under. */
  readonly ekHash: string;
};

/** Reads agent_data.json, or says which part of it is wrong. Members that are not known are passed over. */
export function parseAgentData(text: string): Parsed<AgentData, string> {
  const json = parseJson(text);
  if (!isJsonObject(json)) return bad('not a JSON object');
  const akHashAlg = keyOf(HASH_NAMES, json.ak_hash_alg);
  const akSignAlg = keyOf(SIGN_NAMES, json.ak_sign_alg);
  const akPublic = bytesOf(json.ak_public);
  const akPrivate = bytesOf(json.ak_private);
  const ekHash = bytesOf(json.ek_hash)?.toString('latin1');
  if (akHashAlg === undefined) return bad('ak_hash_alg is not one of Sha1, Sha256, Sha384, Sha512, Sm3_256');
  if (akSignAlg === undefined) return bad('ak_sign_alg is not one of RsaSsa, RsaPss, EcDsa, EcSchnorr');
  if (akPublic === undefined) return bad('ak_public is not a list of bytes');
  if (akPrivate === undefined) return bad('ak_private is not a list of bytes');
  if (ekHash === undefined) return bad('ek_hash is not a list of bytes');
  return good({ akHashAlg, akSignAlg, akPublic, akPrivate, ekHash });
}

/** The text of agent_data.json: byte strings are lists of numbers, one on a line. */
export const formatAgentData = (data: AgentData): string =>
  JSON.stringify(
    {
      ak_hash_alg: HASH_NAMES[data.akHashAlg],
      ak_sign_alg: SIGN_NAMES[data.akSignAlg],
      ak_public: [...data.akPublic],
      ak_private: [...data.akPrivate],
      ek_hash: [...Buffer.from(data.ekHash, 'latin1')],
    },
    undefined,
    2,
  );

const keyOf = <T extends { readonly [key: string]: string }>(names: T, name: Json | undefined) =>
  (Object.keys(names) as (keyof T & string)[]).find((key) => names[key] === name);

/** At most 64 KiB: no TPM structure comes near. */
function bytesOf(value: Json | undefined): Buffer | undefined {
  if (!Array.isArray(value) || value.length > 65_536) return undefined;
  const isByte = (item: Json) => typeof item === 'number' && Number.isInteger(item) && item >= 0 && item <= 255;
  return value.every(isByte) ? Buffer.from(value as number[]) : undefined;
}
