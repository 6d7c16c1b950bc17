import { failure, success } from '@keylime/api/envelope';
import { type AgentId, parseAgentId } from '@keylime/core/agent-id';
import type { Json } from '@keylime/core/json';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';
import { action } from '@keylime/service/http-authorization';
import { HttpProblem } from '@keylime/service/http-problem';
import type { VersionRoutes } from '@keylime/service/http-routes';
import type { FastifyReply } from 'fastify';
import type { Agent } from '../agent.ts';
import type { AgentStore, GroupWrite } from '../agent-store.ts';
import type { BootPolicies } from '../boot-policies.ts';
import type { Engine } from '../engine.ts';
import { enrol } from '../enrol.ts';
import { decodeEnrolment, type EnrolmentSettings } from '../enrolment.ts';
import { type MbPolicy, warningsOf } from '../mb-policy.ts';
import type { PolicyRegistry } from '../policy-registry.ts';
import type { SecretVault } from '../secret-vault.ts';
import { agentStatus } from '../status.ts';
import type { SubmissionSettings } from '../submitted-policy.ts';

export type AgentRoutesParts = {
  readonly agents: AgentStore;
  readonly write: GroupWrite;
  readonly policies: PolicyRegistry<RuntimePolicy>;
  readonly mbPolicies: PolicyRegistry<MbPolicy>;
  readonly bootPolicies: BootPolicies;
  readonly engine: Engine;
  readonly settings: EnrolmentSettings &
    SubmissionSettings & {
      readonly verifierId: string;
      readonly quoteIntervalSeconds: number;
      readonly silenceMs: number;
      readonly vault: SecretVault;
    };
};

type IdParams = { readonly Params: { readonly agentId: string } };
type ListQuery = { readonly Querystring: { readonly bulk?: string; readonly verifier?: string } };

/** Enrolled agents (01 sections 5.2 to 5.5 of the reference). The id that was authorised is the id that is used. */
export const agentRoutes =
  ({ agents, write, policies, mbPolicies, bootPolicies, engine, settings }: AgentRoutesParts): VersionRoutes =>
  (app) => {
    async function status(agent: Agent) {
      const policy = await policies.get(agent.runtimePolicyName).catch(() => undefined);
      const mbPolicy = agent.mbPolicyName && (await mbPolicies.get(agent.mbPolicyName).catch(() => undefined));
      return agentStatus(agent, {
        quoteIntervalSeconds: settings.quoteIntervalSeconds,
        hasRuntimePolicy: (policy?.generator ?? 0) > 1,
        hasMbPolicy: mbPolicy ? mbPolicy.hasReference : false,
      });
    }

    app.get<ListQuery>('/agents', { config: action('list_agents') }, async ({ query }) => {
      // Only this verifier's own agents are known here: a filter for another one finds none.
      const others = query.verifier !== undefined && query.verifier !== '' && query.verifier !== settings.verifierId;
      if (query.bulk) {
        const found = others ? [] : await agents.list();
        const views = await Promise.all(found.map(async (agent) => [agent.id, await status(agent)] as const));
        return success(Object.fromEntries(views));
      }
      // [compat] A list of lists of one.
      return success({ uuids: others ? [] : (await agents.listIds()).map((id) => [id]) });
    });

    app.get<IdParams>('/agents/:agentId', { config: action('read_agent') }, async ({ params }, reply) => {
      const agent = await agents.find(agentId(params.agentId));
      return agent === undefined ? unknown(reply) : success(await status(agent));
    });

    app.post<IdParams>('/agents/:agentId', { config: action('create_agent') }, async ({ params, body }, reply) => {
      const id = agentId(params.agentId);
      if (body === undefined) return reply.code(400).send(failure(400, 'Expected non zero content length'));
      const request = decodeEnrolment(id, body as Json, settings);
      if (!request.ok) return reply.code(400).send(failure(400, request.problem.join('; ')));
      const result = await enrol(write, request.value, settings, bootPolicies);
      if (!result.ok) return reply.code(result.code).send(failure(result.code, result.status));
      const { runtimePolicyName, mbPolicyName = id } = result.agent;
      policies.forget(runtimePolicyName);
      mbPolicies.forget(mbPolicyName);
      engine.refresh(id);
      return success(warningsOf(await mbPolicies.get(mbPolicyName).catch(() => undefined)));
    });

    app.delete<IdParams>('/agents/:agentId', { config: action('delete_agent') }, async ({ params }, reply) => {
      const id = agentId(params.agentId);
      if (!(await agents.remove(id))) return unknown(reply);
      engine.forget(id);
      policies.forget(id);
      mbPolicies.forget(id);
      return success({});
    });

    app.put<IdParams>(
      '/agents/:agentId/reactivate',
      { config: action('reactivate_agent') },
      async ({ params }, reply) => ((await engine.reactivate(agentId(params.agentId))) ? success({}) : unknown(reply)),
    );

    app.put<IdParams>('/agents/:agentId/stop', { config: action('stop_agent') }, async ({ params }, reply) =>
      (await engine.stop(agentId(params.agentId))) ? success({}) : unknown(reply),
    );
  };

function agentId(text: string): AgentId {
  const id = parseAgentId(text);
  // [compat] The wording is what existing tools show.
  if (id === undefined) throw new HttpProblem(400, 'agent_id not not valid');
  return id;
}

const unknown = (reply: FastifyReply) => reply.code(404).send(failure(404, 'agent id not found'));
