/**
 * Clients of a simulated chain: each does one thing after another on a few shared groups, whose epochs are registers with
 * compare-and-set (devnet/chaos/epoch-register.ts). They write (re-key), read linearizably, read what is merely certified, and
 * send old bytes again; a lost answer is tried again with the same bytes, here or elsewhere, or given up as unknown.
 *
 * What they were told is kept: acknowledgements are compared with what was executed, reads with the certified state, and
 * the histories are checked for linearizability at the end of the run.
 */
import type { GroupId, Hash, TransactionId } from '../../chain/brands.ts'
import { Milliseconds } from '../../chain/brands.ts'
import { decodeOwn } from '../../chain/codec.ts'
import { keyIdOf } from '../../chain/keys.ts'
import {
  type CertifiedHeader,
  type StateAnswer,
  type TrustedHead,
  throughHandovers,
  verifyStateAnswer,
} from '../../chain/light-client.ts'
import { groupCodec, groupIdOf, stateKeyOf } from '../../chain/records.ts'
import { unwrap } from '../../chain/result.ts'
import { get } from '../../chain/state-tree.ts'
import { parseTransaction, signTransaction, type TransactionBody } from '../../chain/transaction.ts'
import type { SubmitWait, TransactionStatus } from '../../client/chain-source.ts'
import type {
  EpochInput,
  EpochOperation,
  EpochOutput,
  EpochState,
} from '../../devnet/chaos/epoch-register.ts'
import { maxHandovers } from '../../node/ledger/snapshot-stream.ts'
import type { LedgerNode } from '../../node/ledger-node.ts'
import type { SampleIdentity } from '../support/sample-genesis.ts'
import type { Host, Site } from './host.ts'
import type { Judge } from './judge.ts'
import { type Answer, callNode } from './node-calls.ts'
import type { SeededRandom } from './random.ts'
import { must } from './violation.ts'

export interface ClientsParts {
  readonly site: Site
  readonly random: SeededRandom
  readonly hosts: readonly Host[]
  readonly judge: Judge
  readonly trusted: TrustedHead
  /** One group each. */
  readonly owners: readonly SampleIdentity[]
  readonly count: number
}

/** A transaction that somebody was told of as final. */
export interface AcknowledgedPlace {
  readonly id: TransactionId
  readonly height: number
  readonly index: number
}

/** A transaction as a client sends it. */
export interface Sent {
  readonly id: TransactionId
  readonly bytes: Uint8Array
}

interface Group {
  readonly owner: SampleIdentity
  readonly id: GroupId
  readonly history: EpochOperation[]
}

const answerTimeoutMs = 2_500
const triesMax = 4

export class Clients {
  readonly acknowledged = new Map<TransactionId, AcknowledgedPlace>()
  /** Told that these never will be executed. */
  readonly ruledOut = new Set<TransactionId>()
  readonly groups: readonly Group[]
  readonly #parts: ClientsParts
  readonly #sent: Sent[] = []
  #stopped = false
  #busy = 0
  writes = 0
  reads = 0
  unknown = 0

  constructor(parts: ClientsParts) {
    this.#parts = parts
    this.groups = parts.owners.map(owner => ({ owner, id: groupIdOf(owner.id, groupName), history: [] }))
  }

  /** Every client is idle, for good. */
  get idle(): boolean {
    return this.#stopped && this.#busy === 0
  }

  /** Nobody begins anything new. */
  stop(): void {
    this.#stopped = true
  }

  start(): void {
    let missing = this.groups.length
    for (const group of this.groups)
      this.#create(group, () => {
        missing--
        if (missing === 0) for (let i = 0; i < this.#parts.count; i++) this.#think(i)
      })
  }

  /** Sends a fresh transaction through one host, again and again until it is certified. */
  probe(host: Host, then: () => void): void {
    const { random } = this.#parts
    const group = random.pick(this.groups)
    const name = `probe-${host.name}-${random.below(1e9)}`
    const sent = this.#sign(group, { type: 'group.create', name, epochKeyHash: undefined })
    const attempt = () => {
      if (host.retired) {
        then()
        return
      }
      this.#submit(host, sent, 'certified', answer => {
        const answered = typeof answer === 'object' && 'ok' in answer ? answer.ok : undefined
        // A node that took a snapshot past its block knows that it was executed, not how it ended.
        if (answered?.status === 'certified' || (host.hasGaps && answered?.code === 'duplicate')) then()
        else this.#later(200, attempt)
      })
    }
    attempt()
  }

  /** Sends these bytes until somebody says that they are committed, or the tries are used up. */
  submitUntil(bytes: Uint8Array, tries: number, done: () => void): void {
    const { random, hosts } = this.#parts
    const sent = { id: unwrap(parseTransaction(bytes)).id, bytes }
    this.#submit(random.pick(hosts), sent, 'committed', answer => {
      const isAnswered = typeof answer === 'object' && 'ok' in answer && answer.ok.height !== undefined
      if (isAnswered || tries <= 1) done()
      else this.#later(random.between(10, 300), () => this.submitUntil(bytes, tries - 1, done))
    })
  }

  #later(delayMs: number, happen: () => void): void {
    this.#parts.site.timeline.schedule(delayMs, undefined, 'client', happen)
  }

  #think(client: number): void {
    this.#later(this.#parts.random.exponential(120), () => {
      if (this.#stopped) return
      this.#busy++
      const next = () => {
        this.#busy--
        this.#think(client)
      }
      const { random } = this.#parts
      const choice = random.below(100)
      const group = random.pick(this.groups)
      if (choice < 50) this.#write(client, group, next)
      else if (choice < 75) this.#readLinearizably(client, group, next)
      else if (choice < 90) this.#readCertified(group, next)
      else this.#sendAgain(next)
    })
  }

  #create(group: Group, then: () => void): void {
    const { random, hosts } = this.#parts
    const sent = this.#sign(group, { type: 'group.create', name: groupName, epochKeyHash: undefined })
    const attempt = () => {
      if (this.#stopped) return
      this.#submit(random.pick(hosts), sent, 'certified', answer => {
        if (typeof answer === 'object' && 'ok' in answer && answer.ok.status === 'certified') then()
        else this.#later(100, attempt)
      })
    }
    attempt()
  }

  /** The epoch that the newest block gives: a client learns it from anybody, and may be late with it. */
  #epochOf(group: Group): EpochState {
    const { judge, random } = this.#parts
    const height = Math.max(0, judge.highestBlock - (random.chance(0.15) ? random.below(4) : 0))
    const ledger = judge.block(height)?.ledger
    return epochStateOf(ledger && get(ledger.tree, stateKeyOf.group(group.id)))
  }

  #write(client: number, group: Group, then: () => void): void {
    const { random, site } = this.#parts
    this.writes++
    const { epoch } = this.#epochOf(group)
    const value = Buffer.from(random.bytes(32)).toString('hex') as Hash
    const body = {
      type: 'group.rekey',
      group: group.id,
      membershipVersion: 1,
      epoch,
      epochKeyHash: value,
      boxesHash: value,
    } as const
    const lifeMs = random.chance(0.2) ? random.between(800, 4_000) : undefined
    const sent = this.#sign(group, body, lifeMs)
    const input: EpochInput = { type: 'set', epoch, value }
    const calledAt = site.timeline.now
    const done = (output: EpochOutput | undefined) => {
      if (output === undefined) this.unknown++
      const returned = output && { at: site.timeline.now, output }
      if (!this.ruledOut.has(sent.id)) group.history.push({ client: `${client}`, input, calledAt, returned })
      then()
    }
    // Who hears of it and then misses how it ends must not guess.
    if (lifeMs !== undefined && random.chance(0.5))
      this.#submit(random.pick(this.#parts.hosts), sent, 'certified', () => {})
    this.#try(sent, triesMax, done)
  }

  #try(sent: Sent, tries: number, done: (output: EpochOutput | undefined) => void): void {
    const { random, hosts } = this.#parts
    const wait: SubmitWait = random.chance(0.7) ? 'certified' : 'committed'
    const again = () => {
      if (tries > 1 && random.chance(0.85))
        this.#later(random.between(10, 300), () => this.#try(sent, tries - 1, done))
      else done(undefined)
    }
    if (random.chance(0.05)) this.#submit(random.pick(hosts), sent, 'none', () => {})
    this.#submit(random.pick(hosts), sent, wait, answer => {
      if (answer === 'timeout' || 'error' in answer) again()
      else {
        const output = outputOf(answer.ok)
        if (output || this.ruledOut.has(sent.id)) done(output)
        else again()
      }
    })
  }

  #sendAgain(then: () => void): void {
    const { random, hosts } = this.#parts
    if (this.#sent.length === 0) then()
    else this.#submit(random.pick(hosts), random.pick(this.#sent), 'committed', () => then())
  }

  #readLinearizably(client: number, group: Group, then: () => void): void {
    const { random, hosts, site, judge } = this.#parts
    this.reads++
    const calledAt = site.timeline.now
    const key = stateKeyOf.group(group.id)
    const work = async (node: LedgerNode) => {
      const committed = judge.highestCommitted
      await node.reads.barrier()
      const { appliedIndex } = node.replica
      const state = await node.service.state(key)
      return { committed, appliedIndex, state, handovers: node.handovers.newest(maxHandovers) }
    }
    this.#call(random.pick(hosts), 'read', work, answer => {
      if (typeof answer === 'object' && 'ok' in answer) {
        const { committed, appliedIndex } = answer.ok
        must(appliedIndex >= committed, 'a linearizable read has seen all', `${appliedIndex} < ${committed}`)
        const state = epochStateOf(this.#verified(group, answer.ok.state, answer.ok.handovers))
        const returned = { at: site.timeline.now, output: { type: 'state', state } } as const
        group.history.push({ client: `${client}`, input: { type: 'read' }, calledAt, returned })
      }
      then()
    })
  }

  #readCertified(group: Group, then: () => void): void {
    const { random, hosts } = this.#parts
    const key = stateKeyOf.group(group.id)
    this.#call(
      random.pick(hosts),
      'look',
      async node => {
        const state = await node.service.state(key)
        return { state, handovers: node.handovers.newest(maxHandovers) }
      },
      answer => {
        if (typeof answer === 'object' && 'ok' in answer)
          this.#verified(group, answer.ok.state, answer.ok.handovers)
        then()
      },
    )
  }

  /** What a device that trusts the genesis alone makes of an answer; it must be the state of that height. */
  #verified(
    group: Group,
    answer: StateAnswer,
    handovers: readonly CertifiedHeader[],
  ): Uint8Array | undefined {
    const { trusted, site, judge } = this.#parts
    const key = stateKeyOf.group(group.id)
    const through = throughHandovers(trusted, handovers, answer.height, site.verifier)
    const { height, value } = unwrap(verifyStateAnswer(unwrap(through), key, answer, site.verifier))
    const ledger = judge.block(height)?.ledger
    must(ledger !== undefined, 'certified state is of a committed block', `${height}`)
    const expected = ledger && get(ledger.tree, key)
    const same = Buffer.compare(expected ?? new Uint8Array(), value ?? new Uint8Array()) === 0
    must(same, 'certified state is that of its block', `${height}`)
    return value
  }

  /** By the newest block, as a device takes it that has no clock; a right one while blocks lag behind. */
  #time(): number {
    return Math.max(clientClockStart + this.#parts.site.timeline.now, this.#parts.judge.newestTime)
  }

  /** A transaction as a device of this chain signs it. */
  signed(
    { id, signer }: SampleIdentity,
    body: TransactionBody,
    { random, lifeMs = 300_000 }: { readonly random: SeededRandom; readonly lifeMs?: number | undefined },
  ): Uint8Array {
    return signTransaction(
      {
        version: 1,
        chainId: this.#parts.trusted.chainId,
        body,
        signer: { deviceId: id, keyId: keyIdOf(signer.publicKey) },
        nonce: random.bytes(16),
        expiry: Milliseconds(Math.floor(this.#time() + lifeMs)),
      },
      signer,
    )
  }

  #sign({ owner }: Group, body: TransactionBody, lifeMs?: number): Sent {
    const bytes = this.signed(owner, body, { random: this.#parts.random, lifeMs })
    const sent = { id: unwrap(parseTransaction(bytes)).id, bytes }
    this.#sent.push(sent)
    return sent
  }

  #submit(host: Host, sent: Sent, wait: SubmitWait, then: (answer: Answer<TransactionStatus>) => void): void {
    this.#call(
      host,
      `submit ${sent.id.slice(0, 6)}`,
      node => node.service.submit(sent.bytes, wait),
      answer => {
        if (typeof answer === 'object' && 'ok' in answer) this.#recordStatus(answer.ok)
        then(answer)
      },
    )
  }

  /** Somebody was told this of a transaction: it is so, and stays so. */
  #recordStatus({ id, status, height, index, code }: TransactionStatus): void {
    this.#parts.site.note(`${id.slice(0, 6)} is ${status} ${code ?? ''} ${height ?? ''}/${index ?? ''}`)
    const { executions } = this.#parts.judge
    const executed = executions.get(id)
    if (status === 'committed' || status === 'certified')
      must(
        height !== undefined && index !== undefined,
        'what is acknowledged was executed',
        `${id} ${status}`,
      )
    if (status === 'certified')
      must(
        (height ?? Number.POSITIVE_INFINITY) <= this.#parts.judge.certificatesMade,
        'what is acknowledged as certified is certified',
        `${id} ${height}`,
      )
    if (height !== undefined && index !== undefined) {
      const expected = code ?? 'ok'
      const same = executed?.height === height && executed.index === index && executed.code === expected
      must(
        same,
        'what is acknowledged was executed',
        `${id.slice(0, 8)} ${status} ${height}/${index} ${expected}`,
      )
      this.acknowledged.set(id, { id, height, index })
    } else if (status === 'invalid') {
      must(!executed, 'what is ruled out was not executed', id)
      this.ruledOut.add(id)
    }
  }

  #call<T>(
    host: Host,
    label: string,
    work: (node: LedgerNode) => Promise<T>,
    then: (answer: Answer<T>) => void,
  ): void {
    callNode(this.#parts, host, { label, work, timeoutMs: answerTimeoutMs }, then)
  }
}

const groupName = 'shared'
const clientClockStart = 1_700_000_100_000

function epochStateOf(value: Uint8Array | undefined): EpochState {
  const group = value && decodeOwn(groupCodec, value)
  return { epoch: group?.epoch ?? 0, value: group?.epochKeyHash ?? '' }
}

function outputOf({ status, code }: TransactionStatus): EpochOutput | undefined {
  if (status === 'committed' || status === 'certified') return { type: 'set' }
  return status === 'invalid' && code === 'epoch-conflict' ? { type: 'conflict' } : undefined
}
