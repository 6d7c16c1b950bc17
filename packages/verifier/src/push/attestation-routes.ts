import { documentOf, JSON_API, MALFORMED_REQUEST, parseResourceRequest } from '@keylime/api/push-document';
import { SECONDS_TO_NEXT } from '@keylime/api/push-evidence';
import { type AgentId, parseAgentId } from '@keylime/core/agent-id';
import { action } from '@keylime/service/http-authorization';
import { HttpProblem } from '@keylime/service/http-problem';
import type { VersionRoutes } from '@keylime/service/http-routes';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { AgentStore } from '../agent-store.ts';
import type { AttestationDesk } from './attestation-desk.ts';
import type { AttestationStore } from './attestation-store.ts';
import { attestationPath, attestationResource, negotiatedResource, receivedResource } from './attestation-view.ts';
import { answerInJsonApi, PushRefusal } from './refusal.ts';

export type AttestationRoutesParts = {
  readonly desk: AttestationDesk;
  readonly agents: Pick<AgentStore, 'findOfAnyVerifier'>;
  readonly attestations: Pick<AttestationStore, 'latest' | 'find' | 'page'>;
};

type Params = { readonly Params: { readonly agentId: string; readonly number: string } };
type Page = { readonly Querystring: { readonly 'page[before]'?: string; readonly 'page[size]'?: string } };

const LARGEST_PAGE = 50;
/** Capabilities have a few thousand. */
const MOST_CAPABILITIES_BYTES = 262_144;
const PATH = '/agents/:agentId/attestations';

/** Attestations of agents that send evidence by themselves (05 sections 5, 6 and 9 of the reference). */
export const attestationRoutes =
  ({ desk, agents, attestations }: AttestationRoutesParts): VersionRoutes =>
  (app, version) => {
    answerInJsonApi(app);
    // As bytes: JSON:API allows no charset beside its media type, and the framework would add one.
    const send = (reply: FastifyReply, document: object) =>
      reply.type(JSON_API).send(Buffer.from(JSON.stringify(document)));

    app.post<Params>(
      PATH,
      { config: action('submit_attestation'), preParsing: wantJsonApi, bodyLimit: MOST_CAPABILITIES_BYTES },
      async (request, reply) => {
        const opened = await desk.open(agentIdOf(request.params.agentId), resourceOf(request).attributes);
        reply.code(201).header('location', attestationPath(version, opened));
        return send(reply, documentOf(negotiatedResource(opened, version), { self: pathOf(request) }));
      },
    );

    app.patch<Params>(
      `${PATH}/:number`,
      {
        config: action('submit_attestation'),
        preParsing: wantJsonApi,
        // [MUST] Before the body is read, which may be large.
        onRequest: async ({ params }) => desk.admitEvidence(agentIdOf(params.agentId)),
      },
      async (request, reply) => {
        const { agentId, number } = request.params;
        const received = await desk.submit(agentIdOf(agentId), numberOf(number), resourceOf(request));
        const meta = { [SECONDS_TO_NEXT]: desk.secondsToNext(received) };
        return send(reply.code(202), documentOf(receivedResource(received, version), { self: pathOf(request), meta }));
      },
    );

    app.get<Params & Page>(PATH, { config: action('read_attestations') }, async (request, reply) => {
      const id = agentIdOf(request.params.agentId);
      if ((await agents.findOfAnyVerifier(id)) === undefined) throw notFound(`Agent ${id} is not enrolled`);
      const before = countIn(request.query['page[before]']);
      const size = Math.min(LARGEST_PAGE, Math.max(1, countIn(request.query['page[size]']) ?? LARGEST_PAGE));
      const found = await attestations.page(id, before, size + 1);
      const shown = found.slice(0, size);
      const last = shown.at(-1);
      const next = found.length > size && last && `${pathOf(request)}?page[before]=${last.number}&page[size]=${size}`;
      const resources = shown.map((one) => attestationResource(one, version));
      return send(reply, documentOf(resources, { self: pathOf(request), ...(next && { next }) }));
    });

    app.get<Params>(`${PATH}/:number`, { config: action('read_attestations') }, async (request, reply) => {
      const id = agentIdOf(request.params.agentId);
      const number = numberOf(request.params.number);
      const found = number === 'latest' ? await attestations.latest(id) : await attestations.find(id, number);
      if (found === undefined) throw notFound(`Agent ${id} has no such attestation`);
      return send(reply, documentOf(attestationResource(found, version), { self: pathOf(request) }));
    });
  };

/** [compat] What is sent as anything else is refused, after who sends it was looked at. */
async function wantJsonApi(request: FastifyRequest): Promise<void> {
  if (request.headers['content-type']?.startsWith(JSON_API) === true) return;
  throw new HttpProblem(415, `Send the body with Content-Type: ${JSON_API}.`);
}

function resourceOf({ body }: FastifyRequest) {
  const parsed = parseResourceRequest(body);
  if (!parsed.ok) throw new HttpProblem(400, `${MALFORMED_REQUEST}: ${parsed.problem}`);
  return parsed.value;
}

function agentIdOf(text: string): AgentId {
  const id = parseAgentId(text);
  if (id === undefined) throw notFound('There is no agent of this name');
  return id;
}

function numberOf(text: string): number | 'latest' {
  const number = text === 'latest' ? text : countIn(text);
  if (number === undefined) throw notFound('Attestations have numbers, or are the latest');
  return number;
}

const countIn = (text: string | undefined): number | undefined =>
  text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;

const pathOf = ({ url }: FastifyRequest): string => url.replace(/[?#].*$/s, '').replace(/\/{2,}/g, '/');

const notFound = (detail: string) => new PushRefusal({ status: 404, code: 'not_found', detail });
