/**
 * What must hold of records that gateways bring to the chain, judged from what leaves them and from what nodes execute: which of the transactions are of
 * one message is seen on their way, and how they ended is what the judge saw.
 */
import type { TransactionId } from '../../chain/brands.ts'
import { unwrap } from '../../chain/result.ts'
import { parseTransaction, type TransactionBody } from '../../chain/transaction.ts'
import type { RecordOutcome } from '../../mqtt-gateway/records/recorder.ts'
import type { Clients } from './clients.ts'
import type { DecisionRules } from './decision-rules.ts'
import type { SimulatedMessage } from './gateway-edge.ts'
import type { Judge } from './judge.ts'
import { must } from './violation.ts'

export interface GatewayRulesParts {
  readonly judge: Judge
  readonly clients: Clients
  readonly decisions: DecisionRules
}

export class GatewayRules {
  readonly #judge: Judge
  readonly #clients: Clients
  readonly #decisions: DecisionRules
  readonly #known = new WeakSet<Uint8Array>()
  /** Of each message. */
  readonly #transactions = new Map<number, Set<TransactionId>>()
  /** Exchanges that a message has had. */
  readonly #deliveries = new Map<number, number>()
  readonly #acknowledged = new Set<number>()

  constructor({ judge, clients, decisions }: GatewayRulesParts) {
    this.#judge = judge
    this.#clients = clients
    this.#decisions = decisions
  }

  get acknowledged(): number {
    return this.#acknowledged.size
  }

  delivers({ number }: SimulatedMessage): void {
    this.#deliveries.set(number, (this.#deliveries.get(number) ?? 0) + 1)
  }

  submits(bytes: Uint8Array): void {
    if (this.#known.has(bytes)) return
    this.#known.add(bytes)
    const { id, unsigned } = unwrap(parseTransaction(bytes))
    const number = numberIn(unsigned.body)
    if (number === undefined) return
    if (unsigned.body.type === 'contract.action') this.#decisions.asks(id)
    const ids = this.#transactions.get(number) ?? new Set()
    this.#transactions.set(number, ids.add(id))
  }

  acknowledges({ number }: SimulatedMessage, outcome: RecordOutcome | undefined): void {
    this.#acknowledged.add(number)
    must(
      outcome?.type === 'certified',
      'a message that nothing speaks against is recorded',
      `message ${number}: ${JSON.stringify(outcome)}`,
    )
    if (outcome?.type !== 'certified') return
    const { transaction: id, height, index } = outcome
    const executed = this.#judge.executions.get(id)
    must(
      executed?.height === height &&
        executed.index === index &&
        executed.code === 'ok' &&
        height <= this.#judge.certificatesMade,
      'an acknowledged record is certified',
      `message ${number}, ${id.slice(0, 8)} at ${height}/${index}: ${JSON.stringify(executed)}, certified up to ${this.#judge.certificatesMade}`,
    )
    must(
      this.#transactions.get(number)?.has(id) === true,
      'an acknowledgement is of its message',
      `${number}`,
    )
    this.#isOnce(number)
    this.#clients.acknowledged.set(id, { id, height, index })
  }

  /** When nothing is open any more. */
  judgeAll(): void {
    for (const number of this.#deliveries.keys()) this.#isOnce(number)
    for (const number of this.#acknowledged)
      must(this.#recordsOf(number).length > 0, 'an acknowledged record is on the chain', `message ${number}`)
  }

  #recordsOf(number: number): readonly TransactionId[] {
    const { executions } = this.#judge
    return [...(this.#transactions.get(number) ?? [])].filter(id => executions.get(id)?.code === 'ok')
  }

  #isOnce(number: number): void {
    const records = this.#recordsOf(number)
    must(
      records.length <= (this.#deliveries.get(number) ?? 0),
      'one delivery gives one record',
      `message ${number}: ${records.map(id => id.slice(0, 8))}`,
    )
  }
}

function numberIn(body: TransactionBody): number | undefined {
  if (body.type === 'record.one') return numberOf(body.record.payload)
  if (body.type !== 'contract.action' || body.input.type !== 'record') return undefined
  return numberOf(body.input.record.payload)
}

function numberOf(payload: Uint8Array): number {
  return Number(Buffer.from(payload).toString('utf8'))
}
