import { decodeRuntimePolicy, type RuntimePolicy } from './runtime-policy.ts';
import { type SharedTable, StringTable } from './string-table.ts';

/** A policy as one thread passes it to another: what is large about it is in memory once. */
export type SharedPolicy = {
  readonly checksum: string;
  readonly rest: string;
  readonly digests: SharedTable;
  readonly packages: SharedTable;
};

export const sharePolicy = ({ checksum, rest, digests, packages }: RuntimePolicy): SharedPolicy => ({
  checksum,
  rest,
  digests: digests.shared,
  packages: packages.shared,
});

/** The policy that another thread shares. @throws Error if it is none, which no policy of `sharePolicy` is. */
export function openSharedPolicy({ checksum, rest, digests, packages }: SharedPolicy): RuntimePolicy {
  const decoded = decodeRuntimePolicy(rest);
  if (!decoded.ok) throw new Error(`The runtime policy does not decode: ${decoded.problem[0].message}`);
  return { ...decoded.value, checksum, digests: new StringTable(digests), packages: new StringTable(packages) };
}
