import { CreatePrimary } from './commands.ts';
import { TPM_RH_ENDORSEMENT } from './handles.ts';
import type { TpmObject } from './object.ts';
import type { TpmtPublic } from './public.ts';
import { password, type Tpm } from './tpm.ts';

const none = Buffer.alloc(0);

/** Makes the key that the endorsement hierarchy's seed has for `template`: always the same one. Transient: flush it. */
export async function createPrimary(tpm: Tpm, template: TpmtPublic, hierarchyAuth?: Uint8Array): Promise<TpmObject> {
  const answer = await tpm.run(CreatePrimary, {
    handles: { primaryHandle: TPM_RH_ENDORSEMENT },
    authorizations: [password(hierarchyAuth)],
    parameters: {
      inSensitive: { userAuth: none, data: none },
      inPublic: template,
      outsideInfo: none,
      creationPcr: [],
    },
  });
  return { handle: answer.handle, public: answer.outPublic, name: answer.name };
}
