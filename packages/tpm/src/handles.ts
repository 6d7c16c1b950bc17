/** Permanent handles (TPM 2.0 Part 2 r1.59, 7.4). */
export const TPM_RH_OWNER = 0x40000001;
export const TPM_RH_NULL = 0x40000007;
export const TPM_RS_PW = 0x40000009;
export const TPM_RH_ENDORSEMENT = 0x4000000b;

const handleType = (handle: number): number => handle >>> 24;

/** Whether an object at `handle` outlives a restart and needs no flush. */
export const isPersistent = (handle: number): boolean => handleType(handle) === 0x81;
