import type { ByteReader } from './byte-reader.ts';

/** One member of an `ar` archive; `content` is to be read before the next member is asked for. */
export type ArMember = { readonly name: string; readonly sizeBytes: number; readonly content: AsyncIterable<Buffer> };

const MAGIC = '!<arch>\n';
const HEADER_BYTES = 60;

/**
 * The members of an `ar` archive in the form that Debian packages have: names of up to 15 characters, no symbol table.
 * Source: deb(5), ar(5).
 */
export async function* arMembers(reader: ByteReader): AsyncGenerator<ArMember> {
  if ((await reader.upTo(MAGIC.length)).toString('latin1') !== MAGIC) reader.fail('it does not begin with !<arch>');
  for (;;) {
    const header = (await reader.upTo(HEADER_BYTES)).toString('latin1');
    if (header.trim() === '') return;
    if (header.length !== HEADER_BYTES || !header.endsWith('`\n')) reader.fail('a header of a member is malformed');
    const name = header.slice(0, 16).trimEnd().replace(/\/$/, '');
    const sizeText = header.slice(48, 58).trimEnd();
    if (!/^\d{1,10}$/.test(sizeText)) reader.fail(`the size of member ${JSON.stringify(name)} is malformed`);
    const sizeBytes = Number(sizeText);
    const content = reader.part(sizeBytes);
    yield { name, sizeBytes, content };
    // Whoever did not begin to read has not passed over it either.
    await content.next();
    await content.return(undefined);
    if (sizeBytes % 2 === 1) await reader.upTo(1);
  }
}
