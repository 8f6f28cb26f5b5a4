/** What an operator has to have executed, one after another, before others begin: sent again until it is. */
import { unwrap } from '../../chain/result.ts'
import { parseTransaction, type TransactionBody } from '../../chain/transaction.ts'
import type { SampleIdentity } from '../support/sample-genesis.ts'
import type { Clients } from './clients.ts'
import type { Judge } from './judge.ts'
import type { SeededRandom } from './random.ts'

export interface OperatorStepsParts {
  readonly random: SeededRandom
  readonly judge: Judge
  readonly clients: Clients
  readonly operator: SampleIdentity
}

const triesMax = 6

export class OperatorSteps {
  readonly #parts: OperatorStepsParts
  #stopped = false
  #busy = 0

  constructor(parts: OperatorStepsParts) {
    this.#parts = parts
  }

  get idle(): boolean {
    return this.#stopped && this.#busy === 0
  }

  /** What is not executed by now is given up. */
  stop(): void {
    this.#stopped = true
  }

  run([body, ...rest]: readonly TransactionBody[], then: () => void): void {
    const { random, clients, operator } = this.#parts
    if (body) this.#untilExecuted(clients.signed(operator, body, { random }), () => this.run(rest, then))
    else then()
  }

  #untilExecuted(bytes: Uint8Array, then: () => void): void {
    const { id } = unwrap(parseTransaction(bytes))
    this.#busy++
    this.#parts.clients.submitUntil(bytes, triesMax, () => {
      this.#busy--
      if (this.#parts.judge.executions.has(id)) then()
      else if (!this.#stopped) this.#untilExecuted(bytes, then)
    })
  }
}
