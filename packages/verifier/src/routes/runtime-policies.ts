import { failure, success } from '@keylime/api/envelope';
import type { Json } from '@keylime/core/json';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';
import { action } from '@keylime/service/http-authorization';
import { HttpProblem } from '@keylime/service/http-problem';
import type { VersionRoutes } from '@keylime/service/http-routes';
import { decodeSubmittedPolicy } from '../enrolment.ts';
import { policyNameOf } from '../policy-name.ts';
import type { PolicyRegistry } from '../policy-registry.ts';
import type { PolicyStore, StoredPolicy } from '../policy-store.ts';
import { acceptPolicy, isRefusal, type SubmissionSettings } from '../submitted-policy.ts';

export type RuntimePolicyRoutesParts = {
  readonly store: PolicyStore;
  readonly registry: PolicyRegistry<RuntimePolicy>;
  readonly settings: SubmissionSettings;
};

type NameParams = { readonly Params: { readonly name: string } };

/** Runtime policies, which the API calls allowlists (01 section 5.6 of the reference). Texts are matched by existing suites. */
export const runtimePolicyRoutes =
  ({ store, registry, settings }: RuntimePolicyRoutesParts): VersionRoutes =>
  (app) => {
    app.get('/allowlists', { config: action('list_ima_policies') }, async () =>
      success({ 'runtimepolicy names': await store.listNames() }),
    );

    app.get<NameParams>('/allowlists/:name', { config: action('read_ima_policy') }, async ({ params }, reply) => {
      const name = policyNameOf(params.name);
      const policy = await store.find(name);
      if (policy === undefined) return reply.code(404).send(failure(404, `Runtime policy ${name} not found`));
      // [compat] `tmp_policy` is spelt so.
      return success({ name, tmp_policy: null, runtime_policy: policy.text });
    });

    app.post<NameParams>(
      '/allowlists/:name',
      { config: action('create_ima_policy') },
      async ({ params, body }, reply) => {
        const policy = await submitted(policyNameOf(params.name), body);
        if (!(await store.create(policy))) {
          return reply.code(409).send(failure(409, `Runtime policy with name ${policy.name} already exists`));
        }
        registry.forget(policy.name);
        return reply.code(201).send(success({}, 201));
      },
    );

    app.put<NameParams>(
      '/allowlists/:name',
      { config: action('update_ima_policy') },
      async ({ params, body }, reply) => {
        const policy = await submitted(policyNameOf(params.name), body);
        if (!(await store.replace(policy))) {
          const status = `Runtime policy with name ${policy.name} does not already exist, use POST to create`;
          return reply.code(404).send(failure(404, status));
        }
        registry.forget(policy.name);
        return reply.code(201).send(success({}, 201));
      },
    );

    app.delete<NameParams>('/allowlists/:name', { config: action('delete_ima_policy') }, async ({ params }, reply) => {
      const name = policyNameOf(params.name);
      const result = await store.remove(name);
      if (result === 'unknown') return reply.code(404).send(failure(404, `Runtime policy ${name} not found`));
      if (result !== 'removed') {
        const status = `Can't delete allowlist as it's currently in use by agent ${result.usedBy}`;
        return reply.code(409).send(failure(409, status));
      }
      registry.forget(name);
      return reply.code(204).send();
    });

    async function submitted(name: string, body: unknown): Promise<StoredPolicy> {
      const request = decodeSubmittedPolicy(body as Json | undefined);
      if (!request.ok) throw new HttpProblem(400, request.problem.join('; '));
      const { text, keyPem } = request.value;
      if (text === undefined) throw new HttpProblem(400, 'runtime_policy is empty');
      const policy = await acceptPolicy(name, { text, keyPem }, settings);
      if (isRefusal(policy)) throw new HttpProblem(policy.code, policy.status);
      return policy;
    }
  };
