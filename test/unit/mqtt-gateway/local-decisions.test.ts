/** Contracts that an agent runs by itself: the water valve (Hsu C8), whose agent decides when nothing comes any more. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { DeviceId, Milliseconds } from '../../../chain/brands.ts'
import type { Refusal } from '../../../chain/result.ts'
import { MessageStore } from '../../../client/message-store.ts'
import { LocalDecisions } from '../../../mqtt-gateway/agent/local-decisions.ts'
import type { ContractName } from '../../../mqtt-gateway/agent/named-contracts.ts'
import { StreamRules } from '../../../mqtt-gateway/agent/stream-rules.ts'
import { MemoryTrust } from '../../support/memory-trust.ts'

const valve: ContractName = { type: 'file', path: 'examples/water-valve.json' }
const thermometers: Readonly<Record<string, DeviceId>> = {
  '1111': '11'.repeat(32) as DeviceId,
  '1112': '22'.repeat(32) as DeviceId,
}

let directory: string
let store: MessageStore
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'mote-decisions-'))
  store = await MessageStore.open(join(directory, 'queues'))
})
afterEach(async () => {
  await store.close()
  await rm(directory, { recursive: true })
})

/** An agent beside the valve, at times of the test's own. */
class ValveAgent {
  now = 0 as Milliseconds
  readonly failures: Refusal[] = []
  readonly #rules: StreamRules
  readonly #decisions: LocalDecisions
  #next = Promise.withResolvers<Record<string, unknown>>()

  constructor(rules: StreamRules, contract: ContractName) {
    this.#rules = rules
    this.#decisions = new LocalDecisions({
      device: '33'.repeat(32) as DeviceId,
      decisions: [{ contract, topic: 'valve', everyMs: 3_600_000 }],
      rules,
      store,
      prefix: 'a/contract/',
      now: () => this.now,
      publish: async ({ topicName, payload }) => {
        expect(topicName).toBe('valve')
        this.#next.resolve(JSON.parse(new TextDecoder().decode(payload)))
      },
      onFailure: reason => {
        this.failures.push(reason)
        this.#next.resolve({ Decision: undefined })
      },
    })
  }

  static async start(contract = valve): Promise<ValveAgent> {
    const chain = new MemoryTrust()
    const names = { device: async (name: string) => thermometers[name] }
    const rules = await StreamRules.open({ store, prefix: 'a/', chain, names, named: [contract] })
    return new ValveAgent(rules, contract)
  }

  /** What comes out next. */
  async decision(): Promise<unknown> {
    const { Decision } = await this.#next.promise
    this.#next = Promise.withResolvers()
    return Decision
  }

  async decidesAt(now: number): Promise<unknown> {
    this.now = now as Milliseconds
    this.#decisions.run()
    return this.decision()
  }

  /** The decision after a reading. */
  async reads(name: string, temperature: number, at: number): Promise<unknown> {
    this.now = at as Milliseconds
    const content = new TextEncoder().encode(JSON.stringify({ temperature }))
    const reading = { device: thermometers[name]!, topic: 'water/temperature', content, at: this.now }
    await this.#rules.pass({ recordTopic: reading.topic }, reading, async () => {})
    return this.decision()
  }

  stop(): Promise<void> {
    return this.#decisions.stop()
  }
}

test('local decisions: the valve opens when a thermometer is silent for three periods, and when the two do not agree', async () => {
  const agent = await ValveAgent.start()
  expect(await agent.decision()).toBe('open: silence')
  expect(await agent.reads('1111', 21, 1_000)).toBe('open: silence')
  expect(await agent.reads('1112', 22, 2_000)).toBe('closed')
  expect(await agent.reads('1111', 25, 3_000)).toBe('open')
  expect(await agent.reads('1111', 22, 4_000)).toBe('closed')
  expect(await agent.decidesAt(182_000)).toBe('closed')
  expect(await agent.decidesAt(182_001)).toBe('open: silence')
  expect(await agent.reads('1112', 26, 183_000)).toBe('open: the thermometers disagree')
  expect(agent.failures).toEqual([])
  await agent.stop()
})

test('local decisions: readings and state are there after a restart', async () => {
  const file = join(directory, 'counter.json')
  const count = { name: 'counter', version: 1, state: { runs: 0 }, set: ['runs = runs + 1'] }
  await writeFile(
    file,
    JSON.stringify({
      ...count,
      decide: [{ when: 'runs == 0', say: 'first' }, { when: 'runs == 1', say: 'second' }, { say: 'more' }],
    }),
  )
  const first = await ValveAgent.start({ type: 'file', path: file })
  expect(await first.decision()).toBe('first')
  await first.stop()
  const second = await ValveAgent.start({ type: 'file', path: file })
  expect(await second.decision()).toBe('second')
  await second.stop()
})

test('local decisions: a run that fails publishes nothing and is told', async () => {
  const file = join(directory, 'hasty.json')
  const text = await readFile('examples/water-valve.json', 'utf8')
  const { streams, name } = JSON.parse(text) as Record<string, object>
  await writeFile(
    file,
    JSON.stringify({
      name,
      version: 2,
      streams,
      decide: [{ when: 'inlet > outlet', say: 'open' }, { say: 'closed' }],
    }),
  )
  const agent = await ValveAgent.start({ type: 'file', path: file })
  expect(await agent.decision()).toBeUndefined()
  expect(agent.failures).toMatchObject([
    { code: 'decision-failed', detail: 'contract water-valve: failed: no-reading in decision 1' },
  ])
  await agent.stop()
})
