import { failure, success } from '@keylime/api/envelope';
import type { Json } from '@keylime/core/json';
import { action } from '@keylime/service/http-authorization';
import { HttpProblem } from '@keylime/service/http-problem';
import type { VersionRoutes } from '@keylime/service/http-routes';
import type { BootPolicies } from '../boot-policies.ts';
import { decodeSubmittedMbPolicy } from '../enrolment.ts';
import { acceptMbPolicy, decodeStoredMbPolicy, type MbPolicy, warningsOf } from '../mb-policy.ts';
import { policyNameOf } from '../policy-name.ts';
import type { PolicyRegistry } from '../policy-registry.ts';
import type { PolicyStore, StoredMbPolicy } from '../policy-store.ts';
import { isRefusal } from '../submitted-policy.ts';

export type MbPolicyRoutesParts = {
  readonly store: PolicyStore<StoredMbPolicy>;
  readonly registry: PolicyRegistry<MbPolicy>;
  readonly bootPolicies: BootPolicies;
};

type NameParams = { readonly Params: { readonly name: string } };

/** Measured-boot policies, which are reference states (01 section 5.6 of the reference). Texts are matched by existing suites. */
export const mbPolicyRoutes =
  ({ store, registry, bootPolicies }: MbPolicyRoutesParts): VersionRoutes =>
  (app) => {
    app.get('/mbpolicies', { config: action('list_mb_policies') }, async () =>
      success({ 'mbpolicy names': await store.listNames() }),
    );

    app.get<NameParams>('/mbpolicies/:name', { config: action('read_mb_policy') }, async ({ params }, reply) => {
      const name = policyNameOf(params.name);
      const policy = await store.find(name);
      if (policy === undefined) return reply.code(404).send(failure(404, `Measured boot policy ${name} not found`));
      const { text, rules } = policy;
      return success({ name, mb_policy: text, ...(rules !== null && { mb_policy_rules: rules }) });
    });

    app.post<NameParams>(
      '/mbpolicies/:name',
      { config: action('create_mb_policy') },
      async ({ params, body }, reply) => {
        const policy = await submitted(policyNameOf(params.name), body);
        if (!(await store.create(policy))) {
          const status = `Measured boot policy with name ${policy.name} already exists`;
          return reply.code(409).send(failure(409, status));
        }
        registry.forget(policy.name);
        return reply.code(201).send(success(warningsOf(decodeStoredMbPolicy(policy, bootPolicies)), 201));
      },
    );

    app.put<NameParams>(
      '/mbpolicies/:name',
      { config: action('update_mb_policy') },
      async ({ params, body }, reply) => {
        const policy = await submitted(policyNameOf(params.name), body);
        if (!(await store.replace(policy))) {
          // [compat] A conflict, not 404.
          const status = `Measured boot policy with name ${policy.name} does not already exist`;
          return reply.code(409).send(failure(409, status));
        }
        registry.forget(policy.name);
        return reply.code(201).send(success(warningsOf(decodeStoredMbPolicy(policy, bootPolicies)), 201));
      },
    );

    app.delete<NameParams>('/mbpolicies/:name', { config: action('delete_mb_policy') }, async ({ params }, reply) => {
      const name = policyNameOf(params.name);
      const result = await store.remove(name);
      if (result === 'unknown') return reply.code(404).send(failure(404, `Measured boot policy ${name} not found`));
      if (result !== 'removed') {
        const status = `Can't delete mb_policy as it's currently in use by agent ${result.usedBy}`;
        return reply.code(409).send(failure(409, status));
      }
      registry.forget(name);
      return reply.code(204).send();
    });

    async function submitted(name: string, body: unknown): Promise<StoredMbPolicy> {
      const request = decodeSubmittedMbPolicy(body as Json | undefined);
      if (!request.ok) throw new HttpProblem(400, request.problem.join('; '));
      const policy = await acceptMbPolicy(name, request.value, bootPolicies);
      if (isRefusal(policy)) throw new HttpProblem(policy.code, policy.status);
      return policy;
    }
  };
