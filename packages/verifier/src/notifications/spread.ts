import type { Delivery, SpreadStore } from './outbox.ts';

/** A machine that is told of others. */
export type Peer = { readonly id: string; readonly isReachable: boolean };

export type SpreadParts = {
  /** Enrolled agents in the order of their ids, behind `after`, at most `limit`. */
  readonly peersAfter: (after: string | undefined, limit: number) => Promise<readonly Peer[]>;
  readonly store: SpreadStore;
  /** Offers the notification to one peer; rejects if it did not take it. */
  readonly offer: (peerId: string, delivery: Delivery) => Promise<void>;
};

/** Peers that are offered a notification before that is written down; after a crash they may be offered it once more. */
const CHUNK = 256;
/** Offers under way at once: so many silent peers hold up nobody, and so few handshakes do not hold up attestation. */
const CONCURRENCY = 64;

/**
 * Offers a notification to every enrolled agent, the reported one included ([compat] suites of the field look there). Those
 * who do not take it, who were not reached lately, and who have not taken an earlier one yet get it later, each for itself:
 * whoever is there has it at once, however many are not.
 */
export async function spreadToPeers(delivery: Delivery, { peersAfter, store, offer }: SpreadParts): Promise<void> {
  const waiting = await store.waitingPeers();
  let upTo = delivery.spreadUpTo;
  for (;;) {
    const peers = await peersAfter(upTo, CHUNK);
    const last = peers.at(-1);
    if (last === undefined) return;
    const missed: { target: string; error: string }[] = [];
    const left = peers.values();
    const work = async () => {
      for (const peer of left) {
        const error = await tryPeer(peer);
        if (error !== undefined) missed.push({ target: peer.id, error });
      }
    };
    await Promise.all(Array.from({ length: CONCURRENCY }, work));
    upTo = last.id;
    await store.spread(delivery, { upTo, missed });
  }

  async function tryPeer({ id, isReachable }: Peer): Promise<string | undefined> {
    if (waiting.has(id)) return 'an earlier notification waits';
    if (!isReachable) return 'it was not reached lately';
    try {
      await offer(id, delivery);
      return undefined;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }
}
