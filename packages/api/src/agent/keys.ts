import { type Static, Type } from 'typebox';

/** `results` of GET /vX/keys/pubkey: the payload key as PEM SubjectPublicKeyInfo. */
export const PubkeyResults = Type.Object({ pubkey: Type.String() });
export type PubkeyResults = Static<typeof PubkeyResults>;

/** `results` of GET /vX/keys/verify: lower-case hex HMAC-SHA384 of the challenge under the payload key K. */
export const KeyVerifyResults = Type.Object({ hmac: Type.String() });
export type KeyVerifyResults = Static<typeof KeyVerifyResults>;

/** Body of POST /vX/keys/ukey: base64, hex (96 digits) and base64 (spec 02 section 5.2). */
export const UkeyRequest = Type.Object({
  encrypted_key: Type.String(),
  auth_tag: Type.String(),
  payload: Type.Optional(Type.String()),
});
export type UkeyRequest = Static<typeof UkeyRequest>;

/** Body of POST /vX/keys/vkey. */
export const VkeyRequest = Type.Object({ encrypted_key: Type.String() });
export type VkeyRequest = Static<typeof VkeyRequest>;
