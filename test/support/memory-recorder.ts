/** A recorder without disk and chain: what it was asked, and outcomes as a test gives them. */
import type { Receipt } from '../../chain/block.ts'
import type { Height, TransactionId } from '../../chain/brands.ts'
import { ok, type Result } from '../../chain/result.ts'
import type {
  Accepted,
  Incarnation,
  Recorder,
  RecordOutcome,
  RecordRequest,
  SessionStart,
} from '../../mqtt-gateway/records/recorder.ts'

export const memoryTransaction = 'ee'.repeat(32) as TransactionId

/** Of a transaction that stands in a block. */
export function certifiedAs(receipt: Partial<Receipt> = {}): RecordOutcome {
  return {
    type: 'certified',
    transaction: memoryTransaction,
    height: 7 as Height,
    index: 3,
    receipt: { id: memoryTransaction, code: 'ok', events: [], ...receipt },
  }
}

export class MemoryRecorder implements Recorder {
  readonly requests: RecordRequest[] = []
  readonly releases: string[] = []
  readonly sessions: string[] = []
  /** Of each request. */
  outcome: () => Promise<RecordOutcome> = async () => certifiedAs()
  /** Undefined: it is taken. */
  answer: (() => Promise<Result<Accepted>>) | undefined

  async accept(request: RecordRequest): Promise<Result<Accepted>> {
    this.requests.push(request)
    return this.answer ? this.answer() : ok({ transaction: memoryTransaction, outcome: this.outcome() })
  }

  /** Of a message that was taken before, by its bytes. */
  isRepeat({ exchange }: RecordRequest): boolean {
    const digestOf = (of: RecordRequest['exchange']) => of && Buffer.from(of.digest).toString('hex')
    return (
      exchange !== undefined && this.requests.some(each => digestOf(each.exchange) === digestOf(exchange))
    )
  }

  async released(client: string, packetIdentifier: number): Promise<void> {
    this.releases.push(`${client} ${packetIdentifier}`)
  }

  async passed(): Promise<void> {}

  async incarnationOf(client: string, start: SessionStart): Promise<Incarnation> {
    this.sessions.push(`${client} ${start}`)
    return { incarnation: `life ${this.sessions.length}`, isPresent: start === 'kept' }
  }
}
