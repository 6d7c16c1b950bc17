import { registerHooks } from 'node:module';
import { workerData } from 'node:worker_threads';
import { type BootQuestion, type BootReference, judgeBoot, referenceJson } from '@keylime/appraisal/boot-verdict';
import { BUILT_IN_POLICIES } from '@keylime/measured-boot/built-in';
import type { MeasuredBootPolicy, ReferenceProblem } from '@keylime/measured-boot/policy';
import { readPolicyModule } from './boot-policy-module.ts';
import { answerTasks } from './thread-tasks.ts';
import { rememberVerifiedBoots } from './verified-boots.ts';

/** What a thread with measured-boot policies is asked. No other thread ever runs what an operator's module brings. */
export type BootPolicyTask =
  /** Which policies there are: `BootPolicyNames`. */
  | { readonly kind: 'list' }
  /** Whether a policy takes a reference state: a list of `ReferenceProblem`. */
  | { readonly kind: 'check'; readonly reference: BootReference }
  /** A boot: `BootVerdict`. */
  | { readonly kind: 'judge'; readonly question: BootQuestion };

/** The PCRs that each policy relies on, by its name. */
export type BootPolicyNames = readonly (readonly [name: string, pcrs: readonly number[]])[];

/** URLs of modules. */
export type BootPolicyModules = readonly string[];

// A module may be anywhere and still use the packages of this program: without event-log it could not read an event.
registerHooks({
  resolve: (specifier, context, next) =>
    next(specifier, specifier.startsWith('@keylime/') ? { ...context, parentURL: import.meta.url } : context),
});

const policies = new Map<string, MeasuredBootPolicy>();
for (const policy of BUILT_IN_POLICIES) policies.set(policy.name, policy);
for (const url of workerData as BootPolicyModules) {
  for (const policy of readPolicyModule(await import(url))) {
    if (policies.has(policy.name)) throw new Error(`${url}: there is a measured-boot policy ${policy.name} already`);
    policies.set(policy.name, policy);
  }
}

function check(reference: BootReference): readonly ReferenceProblem[] {
  const decoded = policies.get(reference.rules)?.decodeReference(referenceJson(reference));
  if (decoded === undefined) throw new Error(`there is no measured-boot policy ${reference.rules}`);
  return decoded.ok ? [] : decoded.problem.map(({ path, message }) => ({ path: `${path}`, message: `${message}` }));
}

/** Of logs of 20 to 100 KB, a few hundred; what is made of them takes some three times as much. */
const MOST_REMEMBERED_BYTES = 16 * 1024 * 1024;

const verify = rememberVerifiedBoots(MOST_REMEMBERED_BYTES);

answerTasks<BootPolicyTask>(function* (task) {
  switch (task.kind) {
    case 'list':
      return [...policies.values()].map(({ name, pcrs }) => [name, [...pcrs]]) satisfies BootPolicyNames;
    case 'check':
      return check(task.reference);
    case 'judge':
      return judgeBoot(task.question, policies.get(task.question.reference.rules), verify);
  }
});
