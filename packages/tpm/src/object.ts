import { EvictControl, FlushContext, ReadPublic } from './commands.ts';
import { isPersistent, TPM_RH_OWNER } from './handles.ts';
import type { TpmtPublic } from './public.ts';
import { password, type Tpm } from './tpm.ts';

/** An object in the TPM: at a persistent handle, or at a transient one until it is flushed. */
export type TpmObject = { readonly handle: number; readonly public: TpmtPublic; readonly name: Buffer };

/** The object at `handle`. @throws TpmError `TPM_RC_HANDLE` if there is none. */
export async function readObject(tpm: Tpm, handle: number): Promise<TpmObject> {
  const answer = await tpm.run(ReadPublic, { handles: { objectHandle: handle }, parameters: {} });
  return { handle, public: answer.outPublic, name: answer.name };
}

/** Takes a transient object out of the TPM; a persistent one stays. */
export async function flush(tpm: Tpm, { handle }: Pick<TpmObject, 'handle'>): Promise<void> {
  if (!isPersistent(handle)) await tpm.run(FlushContext, { parameters: { flushHandle: handle } });
}

/** Keeps a transient object at `persistentHandle` (0x81000000 to 0x817FFFFF), in the owner's hierarchy. */
export async function persist(
  tpm: Tpm,
  options: { readonly object: TpmObject; readonly persistentHandle: number; readonly ownerAuth?: Uint8Array },
): Promise<TpmObject> {
  const { object, persistentHandle, ownerAuth } = options;
  await tpm.run(EvictControl, {
    handles: { auth: TPM_RH_OWNER, objectHandle: object.handle },
    authorizations: [password(ownerAuth)],
    parameters: { persistentHandle },
  });
  return { ...object, handle: persistentHandle };
}

/** Removes the persistent object at `handle`. */
export async function unpersist(tpm: Tpm, handle: number, ownerAuth?: Uint8Array): Promise<void> {
  await tpm.run(EvictControl, {
    handles: { auth: TPM_RH_OWNER, objectHandle: handle },
    authorizations: [password(ownerAuth)],
    parameters: { persistentHandle: handle },
  });
}
