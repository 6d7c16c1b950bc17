import { parseAgentId } from '@keylime/core/agent-id';
import { type Agent, freshRecord } from '../agent.ts';

/** An enrolled agent that nobody attested yet. */
export function sampleAgent(text = 'sample'): Agent {
  const id = parseAgentId(text);
  if (id === undefined) throw new RangeError(`${text} is no agent id`);
  return {
    id,
    mode: 'pull',
    ip: '127.0.0.1',
    port: 9002,
    verifierIp: '127.0.0.1',
    verifierPort: 8881,
    tpmPolicy: '{"mask": "0x400"}',
    metadata: '{}',
    runtimePolicyName: text,
    accepted: { hash: ['sha256'], encryption: ['ecc', 'rsa'], signing: ['ecdsa', 'rsassa'] },
    akTpm: '',
    mtlsCert: undefined,
    sealedRevocationKey: undefined,
    sealedKeyShare: undefined,
    verifierId: 'default',
    revision: 1,
    ...freshRecord('2.1'),
  };
}
