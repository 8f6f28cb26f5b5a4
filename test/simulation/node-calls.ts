/** Requests to nodes of a simulated chain from outside of it: by clients, and by gateways as by HTTP. */
import { MoteError } from '../../chain/result.ts'
import type { LedgerNode } from '../../node/ledger-node.ts'
import type { Host, Site } from './host.ts'
import type { SeededRandom } from './random.ts'
import type { SimulatedActor } from './timeline.ts'

export type Answer<T> = { readonly ok: T } | { readonly error: unknown } | 'timeout'

export interface NodeCall<T> {
  readonly label: string
  /** What the node does. */
  readonly work: (node: LedgerNode) => Promise<T>
  readonly timeoutMs: number
  /** Who gets the answer, if it lives by then; undefined: somebody who always does. */
  readonly caller?: SimulatedActor
  /** How likely the request, and its answer, are lost. */
  readonly lossChance?: number
}

/** One request to a node's service, and its answer, if both arrive. */
export function callNode<T>(
  { site, random }: { readonly site: Site; readonly random: SeededRandom },
  host: Host,
  { label, work, timeoutMs, caller, lossChance = 0 }: NodeCall<T>,
  then: (answer: Answer<T>) => void,
): void {
  const { timeline } = site
  let open = true
  const answer = (value: Answer<T>) => {
    if (!open) return
    open = false
    then(value)
  }
  const delay = () => random.between(0.5, 3)
  const isLost = () => lossChance > 0 && random.chance(lossChance)
  timeline.schedule(timeoutMs, caller, `no answer to ${label}`, () => answer('timeout'))
  if (!host.node) {
    timeline.schedule(delay(), caller, `${host.name} is down`, () =>
      answer({ error: new MoteError('unreachable', 'down') }),
    )
    return
  }
  if (isLost()) return
  timeline.schedule(
    delay(),
    () => host.process,
    `${label} at ${host.name}`,
    () => {
      const { process } = host
      const node = process?.node
      if (!node) return
      const reply = (value: Answer<T>) => {
        if (process.alive && !isLost())
          timeline.schedule(delay(), caller, `reply ${label}`, () => answer(value))
      }
      // A refusal may be thrown before there is a promise.
      new Promise<T>(resolve => resolve(work(node))).then(
        ok => reply({ ok }),
        (error: unknown) => reply({ error }),
      )
    },
  )
}
