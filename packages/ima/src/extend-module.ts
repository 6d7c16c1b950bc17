import { endianness } from 'node:os';
import { type Extend, extendChain } from './extend-chain.ts';
import { type ExtendFour, extendFour } from './extend-four.ts';
import { EXTEND, SECOND_BLOCK_SUMS } from './extend-memory.ts';
import { SHA256_K } from './sha-rounds.ts';
import { compileModule, encodeModule, instantiateModule } from './wasm.ts';

/** The functions that extend a SHA-256 PCR, which work in `words`, laid out as `EXTEND` says. */
export type ExtendModule = { readonly words: Uint32Array; readonly extend: Extend; readonly extendFour: ExtendFour };

let module: ExtendModule | null | undefined;

/** `undefined` on a processor without 128-bit SIMD, or whose words are not little-endian. */
export function extendModule(): ExtendModule | undefined {
  if (module === undefined) module = endianness() === 'LE' ? make() : null;
  return module ?? undefined;
}

function make(): ExtendModule | null {
  const constants = Int32Array.from([...SHA256_K, ...SECOND_BLOCK_SUMS]);
  const bytes = encodeModule([extendChain(), extendFour()], EXTEND.pages, new Uint8Array(constants.buffer));
  const compiled = compileModule(bytes);
  if (compiled === undefined) return null;
  const { memory, ...functions } = instantiateModule<Omit<ExtendModule, 'words'>>(compiled, EXTEND.pages);
  return { ...functions, words: new Uint32Array(memory) };
}
