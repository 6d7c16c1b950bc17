import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Json } from '@keylime/core/json';
import { decodeDmPolicy, matchesReference } from './dm-policy.ts';

const TABLE = { num_targets: 1, targets: [{ target_name: 'verity' }] };
const policy = (rule: { readonly [key: string]: Json }, more: { readonly [key: string]: Json } = {}) => ({
  ...{ version: 1, match_on: 'name', rules: { rootfs: { table_load: TABLE, ...rule } } },
  ...more,
});

function decoded(json: Json) {
  const problems: string[] = [];
  const read = decodeDmPolicy(json, ({ path, message }) => problems.push(`${path.join('/')}: ${message}`));
  return { read, problems };
}

test('what a rule leaves out allows nothing and asks for nothing', () => {
  const { read, problems } = decoded(policy({}));
  assert.deepEqual(problems, []);
  const { metadata, targets, ...rule } = read?.rules[0] ?? assert.fail('no rule');
  assert.deepEqual(rule, {
    name: 'rootfs',
    required: false,
    deviceResumeRequired: false,
    allowClear: false,
    allowRemoval: false,
    allowMultipleLoads: false,
    validName: undefined,
    validUuid: undefined,
  });
  assert.deepEqual(new Set(Object.values(metadata).map(({ kind }) => kind)), new Set(['any']));
  assert.deepEqual([read?.matchOn, [...(targets[0]?.keys() ?? [])]], ['name', ['target_name']]);
});

test('every member of a policy is read', () => {
  const { read, problems } = decoded(
    policy(
      {
        ...{ required: true, device_resume_required: true, allow_clear: true },
        device_rename: { valid_name: 'a|b', valid_uuid: null },
        device_remove: { allow_removal: true },
        table_load: {
          ...{ ...TABLE, allow_multiple_loads: true, name: 'rootfs', uuid: null },
          ...{ major: 253, minor: null, minor_count: 1 },
        },
      },
      { match_on: 'uuid' },
    ),
  );
  assert.deepEqual(problems, []);
  const rule = read?.rules[0] ?? assert.fail('no rule');
  const { required, deviceResumeRequired, allowClear, allowRemoval, allowMultipleLoads } = rule;
  assert.deepEqual(
    [read?.matchOn, required, deviceResumeRequired, allowClear, allowRemoval, allowMultipleLoads],
    ['uuid', true, true, true, true, true],
  );
  assert.deepEqual(
    [rule.validName?.kind, rule.validUuid?.kind, rule.metadata.major.kind],
    ['pattern', 'any', 'integer'],
  );
});

test('a value matches anything, a switch, a number, or all of a text', () => {
  const reference = (value: Json) => {
    const { read, problems } = decoded(policy({ table_load: { num_targets: 1, targets: [{ a: value }] } }));
    assert.deepEqual(problems, []);
    return read?.rules[0]?.targets[0]?.get('a') ?? assert.fail('no reference');
  };
  for (const [wanted, matching, others] of [
    [null, ['x', '', undefined], []],
    [true, ['y', 'Yes', 'T', 'true', 'on', '1'], ['n', '', '2', undefined]],
    [false, ['n', 'NO', 'f', 'false', 'Off', '0'], ['y', '', undefined]],
    [253, ['253', '0253'], ['25', '253 ', 'x', '', undefined]],
    ['a|bc', ['a', 'bc'], ['ab', 'abc', 'a\n', '', undefined]],
    ['', [''], ['a', undefined]],
  ] as const) {
    for (const value of matching) assert.equal(matchesReference(reference(wanted), value), true, `${wanted} ${value}`);
    for (const value of others) assert.equal(matchesReference(reference(wanted), value), false, `${wanted} ${value}`);
  }
});

const at = 'rules/rootfs';
for (const [json, expected] of [
  [[], ': an object is wanted'],
  [policy({}, { version: 2 }), 'version: only version 1 is known'],
  [policy({}, { match_on: 'major' }), "match_on: must be 'name' or 'uuid'"],
  [policy({}, { rules: [] }), 'rules: an object is wanted'],
  [policy({ required: 'yes' }), `${at}/required: true or false is wanted`],
  [policy({ device_rename: null }), `${at}/device_rename: an object is wanted`],
  [
    policy({ device_rename: { valid_name: '(' } }),
    `${at}/device_rename/valid_name: missing ), unterminated group at position 0`,
  ],
  // Between parentheses it would be an expression, and say something else.
  [
    policy({ device_rename: { valid_name: 'a)|(?:b' } }),
    `${at}/device_rename/valid_name: unbalanced parenthesis at position 1`,
  ],
  [
    policy({ table_load: { ...TABLE, major: 1.5 } }),
    `${at}/table_load/major: null, a boolean, an integer or a regular expression is wanted`,
  ],
  [policy({ table_load: { num_targets: 1 } }), `${at}/table_load/targets: a list of targets is wanted`],
  [
    policy({ table_load: { ...TABLE, num_targets: 2 } }),
    `${at}/table_load/num_targets: must be the number of targets that the rule lists, 1`,
  ],
  [
    policy({ table_load: { targets: [{}] } }),
    `${at}/table_load/num_targets: must be the number of targets that the rule lists, 1`,
  ],
  [policy({}, { rule: {} }), 'rule: is not a member of this object: version, match_on, rules'],
  [
    policy({ requierd: true }),
    `${at}/requierd: is not a member of this object: required, device_resume_required, allow_clear, device_rename, device_remove, table_load`,
  ],
  [
    policy({ device_rename: { name: 'a' } }),
    `${at}/device_rename/name: is not a member of this object: valid_name, valid_uuid`,
  ],
  [
    policy({ device_remove: { allow: false } }),
    `${at}/device_remove/allow: is not a member of this object: allow_removal`,
  ],
  [
    policy({ table_load: { ...TABLE, nam: 'rootfs' } }),
    `${at}/table_load/nam: is not a member of this object: allow_multiple_loads, name, uuid, major, minor, minor_count, num_targets, targets`,
  ],
] as const) {
  test(`a policy for devices is refused: ${expected}`, () =>
    assert.deepEqual(decoded(json as Json).problems, [expected]));
}
