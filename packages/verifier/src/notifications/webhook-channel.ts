import type { Delivery } from './outbox.ts';

/** Posts a JSON value and resolves to the status of the answer; rejects if nobody answered. */
export type Post = (json: unknown, headers: Readonly<Record<string, string>>) => Promise<number>;

/**
 * Delivers to the webhook: any 2xx means that it was taken; the existing verifier takes 200 and 202 only, and others say
 * 204 (06 section 4.3 of the reference). A receiver that has seen
 * `Keylime-Delivery` before has seen the notification before.
 */
export async function deliverToWebhook(post: Post, delivery: Delivery): Promise<void> {
  const status = await post(JSON.parse(delivery.body), { 'keylime-delivery': delivery.notificationId });
  if (status < 200 || status > 299) throw new Error(`the webhook answered ${status}`);
}
