export type FuzzOptions = {
  /** How many inputs to try. */
  readonly count?: number;
  /** The same seed and count give the same inputs. */
  readonly seed: number;
  /** Tells a person how far it is. */
  readonly say: (text: string) => void;
};

/** Integers from 0 to `below - 1`, the same ones for the same seed. */
export type Random = (below: number) => number;

/** Marsaglia's xorshift with 32 bits: quick, repeatable, and good enough to choose bytes with. */
export function seededRandom(seed: number): Random {
  let state = (seed * 0x9e3779b1) | 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}
