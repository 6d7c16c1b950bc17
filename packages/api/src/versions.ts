/** Versions of the v2 REST API that registrar and verifier route, oldest first (Keylime REST API, spec 01 section 1.1). */
export const API_VERSIONS = ['2.0', '2.1', '2.2', '2.3', '2.4', '2.5', '2.6'] as const;

/** Versions that a pull agent serves: 2.0 never had the routes that agents serve today (spec 01 section 1.1). */
export const AGENT_API_VERSIONS = ['2.1', '2.2', '2.3', '2.4', '2.5', '2.6'] as const;

export type ApiVersion = (typeof API_VERSIONS)[number];
export type AgentApiVersion = (typeof AGENT_API_VERSIONS)[number];

/** The version that is spoken when a peer does not say which ones it knows. */
export const CURRENT_API_VERSION = '2.6' satisfies ApiVersion;

/**
 * An agent answers 400 with a `status` that contains this text when a path names a version it does not serve; a verifier
 * then negotiates anew. [compat] The text is the wire contract (spec 01 section 1.4).
 */
export const VERSION_NOT_SUPPORTED = 'API version not supported';

/** Whether `status` of an agent's 400 answer asks for a new negotiation. */
export const saysVersionNotSupported = (status: string): boolean => status.includes(VERSION_NOT_SUPPORTED);

/** `major.minor` as numbers, or `undefined` if `text` is no version: one digit, a dot, one digit, without a `v`. */
export function parseApiVersion(text: string): { readonly major: number; readonly minor: number } | undefined {
  const match = /^(\d)\.(\d)$/.exec(text);
  return match ? { major: Number(match[1]), minor: Number(match[2]) } : undefined;
}

/** Negative if version `a` is older than `b`, 0 if they are equal, positive if it is newer; both must be versions. */
export function compareApiVersions(a: string, b: string): number {
  const [left, right] = [parseApiVersion(a), parseApiVersion(b)];
  if (left === undefined || right === undefined) throw new RangeError(`Not API versions: '${a}', '${b}'.`);
  return left.major - right.major || left.minor - right.minor;
}

/**
 * The newest version that both sides know, or `undefined` if there is none. Texts of the peer that are no versions, and
 * major versions from 3 on (the push protocol, which is not negotiated), are passed over (spec 01 section 1.4).
 */
export function negotiateApiVersion(
  peer: readonly string[],
  own: readonly ApiVersion[] = API_VERSIONS,
): ApiVersion | undefined {
  return own
    .filter((version) => peer.includes(version))
    .toSorted(compareApiVersions)
    .at(-1);
}

/**
 * Whether an agent that was attested before may change from version `stored` to `negotiated`. [MUST] An equal or older
 * version is refused once `attestationCount` is above 0: an attacker in the path could otherwise pick an older protocol.
 * The equal version is no downgrade but no answer to the agent's complaint either (spec 01 section 1.4).
 */
export const mayChangeApiVersion = (stored: string, negotiated: string, attestationCount: number): boolean =>
  attestationCount === 0 || compareApiVersions(negotiated, stored) > 0;
