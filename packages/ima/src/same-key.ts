import type { KeyObject } from 'node:crypto';
import { RecentMap } from '@keylime/core/recent-map';

/** By SubjectPublicKeyInfo in DER. */
const known = new RecentMap<string, KeyObject>(10_000);
const firstOf = new WeakMap<KeyObject, KeyObject>();

/**
 * The first object that was seen of this public key: keys that cross over to a thread are other objects each time, and what
 * was worked out for one is good for all.
 */
export function sameKey(key: KeyObject): KeyObject {
  const found = firstOf.get(key);
  if (found !== undefined) return found;
  const name = key.export({ type: 'spki', format: 'der' }).toString('base64');
  const first = known.get(name) ?? key;
  known.set(name, first);
  firstOf.set(key, first);
  return first;
}
