/** Times that a node keeps to unless its configuration says otherwise. */

/** A leader beats every 100 ms; a follower that hears nothing for 500 ms to 1 s stands for election. */
export const defaultRaftTiming = { tickMs: 50, electionTimeoutTicks: 10, heartbeatTicks: 2 } as const
/** `trustTtlMs`: the age of the head that a lightweight or coordination node still trusts. */
export const defaultTrustTtlMs = 180_000
