/** Milliseconds that the project promises for a machine with two free cores. */
export const BOUNDS = {
  /** From `add` to the decrypted payload. */
  bootstrap_ms: 500,
  /** From an unknown program's measurement to the verifier's verdict. */
  detected_ms: 1000,
  /** To the notification of an operator. */
  reported_ms: 1000,
  /** To the actions of the other machines. */
  peer_notified_ms: 1000,
  /** From the start of an agent after another boot to the verdict; a machine that is away is asked every second. */
  boot_detected_ms: 3000,
} as const;

/**
 * What is wrong with the times of a story, one line each: a figure that is missing or over its bound.
 * @param patience multiplies the bounds, for machines that are slow or busy
 */
export function boundProblems(times: { readonly [name: string]: unknown }, patience: number): readonly string[] {
  return Object.entries(BOUNDS).flatMap(([name, bound]) => {
    const value = times[name];
    if (typeof value !== 'number' || !Number.isFinite(value)) return [`${name} was not measured`];
    const most = bound * patience;
    return value > most ? [`${name} is ${Math.round(value)} and must be at most ${most}`] : [];
  });
}
