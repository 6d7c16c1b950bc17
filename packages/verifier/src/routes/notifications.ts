import { failure, success } from '@keylime/api/envelope';
import { isJsonObject, type Json } from '@keylime/core/json';
import { action } from '@keylime/service/http-authorization';
import { HttpProblem } from '@keylime/service/http-problem';
import type { VersionRoutes } from '@keylime/service/http-routes';
import type { Clock } from '../clock.ts';
import type { DeadLetter, DeadLetters } from '../notifications/dead-letters.ts';
import type { DeliveryCounts } from '../notifications/delivery-counts.ts';

export type NotificationRoutesParts = {
  readonly deadLetters: DeadLetters;
  /** Those that are in use. */
  readonly channels: readonly string[];
  readonly counts: DeliveryCounts;
  /** PEM of the certificates that notifications of this verifier's own key are verified with. */
  readonly certificates: () => string;
  /** Something is to be tried again. */
  readonly wake: () => void;
  readonly clock: Clock;
};

const PAGE = 1000;
const LONGEST_LIST = 10_000;

type IdParams = { readonly Params: { readonly id: string } };
type PageQuery = { readonly Querystring: { readonly after?: string } };

/** Notifications that wait, and those that were given up; for administrators. The existing verifier has nothing like it. */
export const notificationRoutes =
  ({ deadLetters, channels, counts, certificates, wake, clock }: NotificationRoutesParts): VersionRoutes =>
  (app) => {
    app.get('/notifications', { config: action('list_notifications') }, async () => {
      const [waiting, dead] = [await deadLetters.waiting(), await deadLetters.count()];
      // What waits on a channel that was switched off waits until it is on again.
      const names = new Set([...channels, ...[...waiting, ...dead].map(({ channel }) => channel)]);
      return success({
        since: counts.since.toISOString(),
        channels: [...names].sort().map((channel) => ({
          channel,
          enabled: channels.includes(channel),
          waiting: countOf(waiting, channel),
          ...counts.of(channel),
          dead: countOf(dead, channel),
        })),
        waiting: waiting.map(({ channel, count, oldestAtMs }) => ({ channel, count, oldest: utc(oldestAtMs) })),
        dead: dead.reduce((sum, { count }) => sum + count, 0),
      });
    });

    app.get('/notifications/certificates', { config: action('read_notification_certificates') }, async () =>
      success({ certificates: certificates() }),
    );

    app.get<PageQuery>('/notifications/dead', { config: action('list_notifications') }, async ({ query }) => {
      const letters = await deadLetters.list(query.after === undefined ? 0 : idOf(query.after), PAGE);
      return success({ dead: letters.map(view) });
    });

    app.post('/notifications/dead/replay', { config: action('replay_notifications') }, async ({ body }) => {
      const replayed = await deadLetters.replay(idsOf(body as Json | undefined), clock.now());
      wake();
      return success({ replayed });
    });

    app.delete<IdParams>(
      '/notifications/dead/:id',
      { config: action('discard_notification') },
      async ({ params }, reply) =>
        (await deadLetters.discard(idOf(params.id)))
          ? success({})
          : reply.code(404).send(failure(404, `No notification ${params.id} was given up`)),
    );
  };

const countOf = (counts: readonly { readonly channel: string; readonly count: number }[], name: string): number =>
  counts.find(({ channel }) => channel === name)?.count ?? 0;

const view = ({ notificationId, agentId, createdAtMs, ...letter }: DeadLetter) => ({
  id: letter.id,
  notification_id: notificationId,
  agent_id: agentId,
  channel: letter.channel,
  target: letter.target ?? null,
  created: utc(createdAtMs),
  attempts: letter.attempts,
  error: letter.error ?? null,
});

const utc = (ms: number): string => new Date(ms).toISOString();

function idOf(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new HttpProblem(400, 'the id of a notification that was given up is a number');
}

/** `{"ids": [1, 2]}`, or `{"ids": "all"}`: what is tried again is said, not guessed from an empty body. */
function idsOf(body: Json | undefined): readonly number[] | 'all' {
  const ids = isJsonObject(body) ? body.ids : undefined;
  if (ids === 'all') return ids;
  const isId = (id: Json): id is number => typeof id === 'number' && Number.isSafeInteger(id) && id >= 0;
  if (Array.isArray(ids) && ids.length > 0 && ids.length <= LONGEST_LIST && ids.every(isId)) return ids;
  throw new HttpProblem(400, `ids must be "all" or a list of 1 to ${LONGEST_LIST} numbers`);
}
