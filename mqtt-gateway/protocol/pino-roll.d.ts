/** The part of pino-roll that is used here; the package ships no types. */
declare module 'pino-roll' {
  import type { DestinationStream } from 'pino'

  interface RollOptions {
    /** Path without number and extension. */
    readonly file: string
    readonly extension?: string
    /** Size at which the next file begins: '10m', say. */
    readonly size?: string
    /** Old files that are kept beside the current one. */
    readonly limit?: { readonly count: number }
    readonly mkdir?: boolean
    readonly sync?: boolean
    /** Permissions of the files. */
    readonly mode?: number
  }

  export default function roll(
    options: RollOptions,
  ): Promise<DestinationStream & NodeJS.EventEmitter & { end(): void }>
}
