import { createCleartextMessage, createMessage, generateKey, sign } from 'openpgp';

/** Somebody who signs repositories. */
export type Signer = {
  /** Armoured. */
  readonly publicKey: string;
  readonly publicKeyBytes: Buffer;
  readonly detached: (content: string | Buffer, form?: 'armored' | 'binary') => Promise<Buffer>;
  readonly clearSigned: (text: string) => Promise<string>;
};

export async function makeSigner(): Promise<Signer> {
  const { privateKey, publicKey } = await generateKey({
    userIDs: [{ name: 'Test' }],
    format: 'object',
    // Signatures of the future are not good, and tests have their own clock.
    date: new Date(2026, 0, 1),
  });
  const date = new Date(2026, 1, 1);
  return {
    publicKey: publicKey.armor(),
    publicKeyBytes: Buffer.from(publicKey.write()),
    async detached(content, form = 'armored') {
      const message = await createMessage({ binary: Uint8Array.from(Buffer.from(content)) });
      const options = { message, signingKeys: privateKey, detached: true, date } as const;
      return form === 'armored'
        ? Buffer.from(await sign({ ...options, format: 'armored' }))
        : Buffer.from(await sign({ ...options, format: 'binary' }));
    },
    clearSigned: async (text) =>
      sign({ message: await createCleartextMessage({ text }), signingKeys: privateKey, date }),
  };
}
