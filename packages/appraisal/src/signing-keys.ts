import { decodeKeyring, encodeKeyring, type Keyring, type KeyringJson } from '@keylime/ima/keyring';
import type { VerificationKey } from '@keylime/ima/public-key';

/** What a keyring of the kernel may sign, for the keyrings whose keys are learned (Linux integrity `digsig.c`). */
const USES = { '.ima': 'file', '.evm': 'metadata' } as const;

export type LearnedKeyringName = keyof typeof USES;
export type SignatureUse = (typeof USES)[LearnedKeyringName];

/** Keys that certified entries of a measurement list brought, as JSON, to remember between two attestations. */
export type LearnedKeyrings = { readonly [name in LearnedKeyringName]?: KeyringJson };

const isLearned = (name: string): name is LearnedKeyringName => Object.hasOwn(USES, name);

/**
 * The keys by which signatures of one machine's list are judged: those that an operator gave, good for files and metadata,
 * and those that its kernel loaded. Changes while a list is judged: throw it away with a list that was refused.
 */
export class SigningKeys {
  readonly #given: Keyring;
  #json: LearnedKeyrings | undefined;
  readonly #learned = new Map<LearnedKeyringName, Map<number, VerificationKey>>();

  constructor(given: Keyring, learned?: LearnedKeyrings) {
    this.#given = given;
    this.#json = learned;
    for (const name of Object.keys(learned ?? {}).filter(isLearned)) {
      const keyring = decodeKeyring(learned?.[name] ?? { pubkeys: [], keyids: [] });
      // They were decoded before they were stored; what no longer does verifies nothing.
      if (keyring.ok) this.#learned.set(name, new Map(keyring.value));
    }
  }

  /** The one key of that id for that use: where several keyrings have it, the operator's counts. */
  find(keyId: number, use: SignatureUse): VerificationKey | undefined {
    const given = this.#given.get(keyId);
    if (given !== undefined) return given;
    for (const [name, keyring] of this.#learned) if (USES[name] === use) return keyring.get(keyId);
    return undefined;
  }

  /** All keys for that use. */
  *all(use: SignatureUse): Generator<VerificationKey> {
    yield* this.#given.values();
    for (const [name, keyring] of this.#learned) if (USES[name] === use) yield* keyring.values();
  }

  /** Takes a key that the kernel loaded; those of keyrings that sign neither files nor metadata are of no use. */
  learn(keyringName: string, key: VerificationKey): void {
    if (!isLearned(keyringName)) return;
    const keyring = this.#learned.get(keyringName) ?? new Map<number, VerificationKey>();
    this.#json = undefined;
    this.#learned.set(keyringName, keyring.set(key.keyId, key));
  }

  /** `undefined` where nothing was learned. */
  learned(): LearnedKeyrings | undefined {
    if (this.#learned.size === 0) return undefined;
    this.#json ??= Object.fromEntries(
      [...this.#learned].map(([name, keyring]) => [name, encodeKeyring(keyring.values())]),
    );
    return this.#json;
  }
}
