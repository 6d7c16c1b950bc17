import assert from 'node:assert/strict';
import test from 'node:test';
import { parseArguments } from './argv.ts';
import { usageProblem } from './usage.ts';

const problem = (line: string) => usageProblem(parseArguments(line.split(' ')));

test('the checks are made in the order of the existing tenant', () => {
  const needed = '--allowlist or --runtime_policy is required to add a runtime policy';
  assert.equal(problem('-c addallowlist'), needed);
  assert.equal(problem('-c addruntimepolicy --exclude x --runtime-policy-checksum 00'), needed);
  assert.match(problem('--exclude x --runtime-policy-url u') ?? '', /^--exclude needs --allowlist/);
  assert.match(
    problem('--allowlist a --allowlist-url b --runtime-policy c --runtime-policy-url d') ?? '',
    /^--allowlist and/,
  );
  assert.match(
    problem('--runtime-policy c --runtime-policy-url d') ?? '',
    /^--runtime-policy and --runtime-policy-url/,
  );
  assert.match(problem('--runtime-policy-url d') ?? '', /^--runtime-policy-url needs --runtime-policy-checksum/);
  assert.match(problem('--runtime-policy-checksum 00') ?? '', /^--runtime-policy-checksum needs/);
});

test('an update of a runtime policy without a policy is refused, it would store an empty one', () => {
  assert.match(problem('-c updateruntimepolicy --runtime-policy-name p') ?? '', /is required to update/);
});

test('sound combinations pass', () => {
  for (const line of [
    '-c cvlist',
    '-u x --runtime-policy f --runtime-policy-checksum 00',
    '-u x --runtime-policy-url u --runtime-policy-checksum 00',
    '-c addruntimepolicy --runtime-policy f --runtime-policy-name p',
    '-u x --allowlist f --exclude g',
  ]) {
    assert.equal(problem(line), undefined, line);
  }
});
