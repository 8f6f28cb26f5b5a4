/** What the gateway's process and the one with the attackers tell each other. */

/** What the gateway's process says of itself. */
export interface GatewayFigures {
  readonly rssBytes: number
  /** After a collection. */
  readonly heapBytes: number
  /** Lines of the decision log, by event and code; of the honest device's messages none. */
  readonly lines: Readonly<Record<string, number>>
  readonly honest: {
    readonly sent: number
    readonly checked: number
    readonly read: number
    readonly p50Ms: number
    readonly p99Ms: number
  }
  /** What nothing should have thrown. */
  readonly errors: readonly string[]
}

/** Where it is, and what the attackers have to know to be nearly right. */
export interface AttackedGateway {
  readonly host: string
  readonly port: number
  readonly chainId: string
  readonly group: string
  /** Name of a device. */
  readonly recipient: string
}

/** Names of the devices whose keys the attackers have. */
export const hostileNames = Array.from({ length: 24 }, (_, i) => `hostile-${i}`)
