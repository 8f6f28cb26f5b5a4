/** The checks behind a chaos report: each passes on what is right and fails on the one thing it is there for. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { DeviceId, type GroupId, type Height, type Term, type TransactionId } from '../../../chain/brands.ts'
import { MoteError } from '../../../chain/result.ts'
import type { ChainSource, NodeStatus, TransactionStatus } from '../../../client/chain-source.ts'
import { KeyDirectory } from '../../../client/key-directory.ts'
import type { ChainAccess } from '../../../devnet/access.ts'
import {
  acknowledgedNeverLost,
  type Chains,
  certifiedReadsAgree,
  edgeCatchesUp,
  executedOnce,
  gatewayNeverStale,
  linearizable,
  oneHashPerHeight,
  oneLeaderPerTerm,
  servesAgain,
  wipedStaysOut,
} from '../../../devnet/chaos/invariants.ts'
import { firstAcknowledgedAfterTerm, killLeader } from '../../../devnet/chaos/kill-leader.ts'
import { type LevelNode, requireLevel, untilAnswered, untilLevel } from '../../../devnet/chaos/level.ts'
import type { EpochHistory } from '../../../devnet/chaos/load.ts'
import { PlainClient } from '../../../devnet/chaos/plain-client.ts'
import { electionTime, longestGap } from '../../../devnet/chaos/scenario-run.ts'
import { spreadOf } from '../../../devnet/chaos/timing.ts'
import { layout } from '../../../devnet/layout.ts'
import { serveChain } from '../../support/served-chain.ts'
import { keysOf, TestChain } from '../../support/test-chain.ts'

const block = (headerHash: string, ...transactions: (readonly [string, string])[]) => ({
  headerHash,
  transactions: transactions.map(([id, code]) => ({ id, code })),
})
const first = 10 as Height
const good = [block('h10', ['a', 'ok']), block('h11', ['b', 'ok'], ['a', 'duplicate'])]
const chains = (...nodes: (typeof good | undefined)[]): Chains =>
  new Map(nodes.map((blocks, i) => [`full-${i + 1}`, blocks ?? good]))
const acknowledged = (id: string, height: number) => ({
  id: id as TransactionId,
  height: height as Height,
  term: 1 as Term,
  atMs: 0,
})

describe('chaos invariants', () => {
  test('acknowledged is never lost: on every node, at its height, executed', () => {
    const all = [acknowledged('a', 10), acknowledged('b', 11)]
    expect(acknowledgedNeverLost(chains(good, good), first, all).pass).toBe(true)
    const without = [block('h10', ['a', 'ok']), block('h11')]
    expect(acknowledgedNeverLost(chains(good, without), first, all).pass).toBe(false)
    const failed = [block('h10', ['a', 'ok']), block('h11', ['b', 'expired'])]
    expect(acknowledgedNeverLost(chains(failed), first, all).pass).toBe(false)
    expect(acknowledgedNeverLost(chains(good), first, [acknowledged('a', 11)]).pass).toBe(false)
  })
  test('acknowledged is never lost: a run in which nothing was acknowledged proves nothing', () => {
    expect(acknowledgedNeverLost(chains(good), first, []).pass).toBe(false)
  })
  test('one hash per height: another hash or a missing block fails', () => {
    expect(oneHashPerHeight(chains(good, good, good), first).pass).toBe(true)
    expect(oneHashPerHeight(chains(good, [block('h10'), block('other')]), first).pass).toBe(false)
    expect(oneHashPerHeight(chains(good, [block('h10')]), first).pass).toBe(false)
  })
  test('executed once: a duplicate receipt is no execution, a second one is', () => {
    expect(executedOnce(chains(good)).pass).toBe(true)
    expect(executedOnce(chains([block('h10', ['a', 'ok']), block('h11', ['a', 'ok'])])).pass).toBe(false)
  })
  test('one leader per term', () => {
    const won = (node: string, term: number) => ({ node, term, atMs: 0 })
    expect(oneLeaderPerTerm([won('a', 1), won('b', 2), won('a', 3), won('a', 3)]).pass).toBe(true)
    expect(oneLeaderPerTerm([won('a', 1), won('b', 1)]).pass).toBe(false)
  })
  test('serves again: one episode without is enough to fail', () => {
    expect(servesAgain([5, 7], 100).pass).toBe(true)
    expect(servesAgain([5, undefined], 100).pass).toBe(false)
  })
  test('the gateway relays nothing on stale data; refusing on it is right', () => {
    const decision = (verdict: string, ageMs: number) => ({ event: 'message', verdict, code: null, ageMs })
    expect(gatewayNeverStale([decision('Check', 10), decision('Error', 99)], 15).pass).toBe(true)
    expect(gatewayNeverStale([decision('Check', 16)], 15).pass).toBe(false)
  })
  test('a wiped node that comes back fails', () => {
    expect(wipedStaysOut([{ node: 'a', refused: true }]).pass).toBe(true)
    expect(wipedStaysOut([{ node: 'a', refused: false }]).pass).toBe(false)
  })

  test('light and coordination nodes: one that did not come back from one fault fails, and so does one at the end', () => {
    const level = { type: 'level', height: 80, tookMs: 12 } as const
    const behind = { type: 'behind', detail: 'light-1: at height 7' } as const
    const hit = { node: 'light-1', fault: 'pause' } as const
    const last = [{ node: 'light-1', level }]
    expect(edgeCatchesUp([{ ...hit, level }], last)).toMatchObject({
      pass: true,
      detail: 'light-1 at 80, light-1 12 ms after pause',
    })
    expect(edgeCatchesUp([], last)).toMatchObject({ pass: true, detail: 'light-1 at 80, none was hit' })
    expect(
      edgeCatchesUp(
        [
          { ...hit, level },
          { ...hit, level: behind },
        ],
        last,
      ),
    ).toMatchObject({
      pass: false,
      detail: 'pause: light-1: at height 7',
    })
    expect(edgeCatchesUp([], [{ node: 'light-1', level: behind }]).pass).toBe(false)
  })

  const history = (parts: Partial<EpochHistory>): EpochHistory => ({
    group: 'g' as GroupId,
    since: 10 as Height,
    initial: { epoch: 0, value: '' },
    operations: [],
    certifiedReads: [],
    setAt: new Map(),
    ...parts,
  })
  test('linearizable: two winners of one epoch fail', () => {
    const set = (value: string, calledAt: number) => ({
      client: value,
      input: { type: 'set', epoch: 0, value } as const,
      calledAt,
      returned: { at: calledAt + 5, output: { type: 'set' } as const },
    })
    expect(linearizable([history({ operations: [set('a', 0)] })]).pass).toBe(true)
    expect(linearizable([history({ operations: [set('a', 0), set('b', 2)] })]).pass).toBe(false)
    expect(linearizable([history({})]).pass).toBe(false)
  })
  test('certified reads: that there is no group is right before it was made, and wrong after', () => {
    const agrees = (height: number): boolean =>
      certifiedReadsAgree([history({ certifiedReads: [{ height: height as Height, state: undefined }] })])
        .pass
    expect([agrees(9), agrees(10)]).toEqual([true, false])
  })
  test('certified reads: an epoch before it was set, or after it was replaced, fails', () => {
    const setAt = new Map([
      [1, 20 as Height],
      [2, 30 as Height],
    ])
    const agrees = (height: number, epoch: number): boolean =>
      certifiedReadsAgree([
        history({ setAt, certifiedReads: [{ height: height as Height, state: { epoch, value: '' } }] }),
      ]).pass
    expect([agrees(19, 0), agrees(20, 1), agrees(29, 1), agrees(30, 2)]).toEqual([true, true, true, true])
    expect([agrees(20, 0), agrees(19, 1), agrees(30, 1), agrees(29, 2)]).toEqual([false, false, false, false])
  })
})

describe('caught up', () => {
  /** A node whose certified height is whatever the function gives; undefined: it does not answer. */
  const node = (name: string, label: string, height: () => number | undefined): LevelNode => ({
    name,
    label,
    source: {
      name: 'http://127.0.0.1:1',
      status: async () => {
        const certifiedHeight = height()
        if (certifiedHeight === undefined) throw new MoteError('unreachable', name)
        return { certifiedHeight } as NodeStatus
      },
    },
  })
  const soon = { deadlineMs: 200 }

  test('is who has what the full nodes had when they were asked, while they go on', async () => {
    let [own, top] = [0, 10]
    const full = [node('full-1', 'full', () => top++), node('full-2', 'full', () => 3)]
    const light = node('light-1', 'lightweight', () => own++)
    expect(await untilLevel(light, full, { deadlineMs: 60_000 })).toMatchObject({ type: 'level', height: 10 })
  })
  test('is not who stays behind: the reason says from where to where, and no success is made of it', async () => {
    const full = [node('full-1', 'full', () => 10), node('full-2', 'full', () => undefined)]
    const late = await untilLevel(
      node('light-1', 'lightweight', () => 9),
      full,
      soon,
    )
    expect(late).toMatchObject({
      detail: expect.stringMatching(/^light-1: at height 9, full nodes at 10, not/),
    })
    expect(() => requireLevel(late)).toThrow(expect.objectContaining({ code: 'timeout' }))
    const silent = node('light-1', 'lightweight', () => undefined)
    expect(await untilLevel(silent, full, soon)).toMatchObject({
      detail: expect.stringMatching(/^light-1: does not answer/),
    })
  })
  test('who has no height answers, or the last reason is given, also while a question hangs', async () => {
    const reasons = ['stale', 'unreachable']
    const answers = async () => {
      const reason = reasons.shift()
      if (reason) throw new Error(reason)
    }
    await untilAnswered('gateway', answers, { deadlineMs: 60_000 })
    expect(reasons).toEqual([])
    const refuses = async () => {
      throw new Error('too old')
    }
    const hangs = () => new Promise<void>(() => {})
    await expect(untilAnswered('gateway', refuses, soon)).rejects.toThrow(/^timeout: gateway: .*too old$/)
    await expect(untilAnswered('gateway', hangs, soon)).rejects.toThrow(/^timeout: gateway: .*no answer$/)
  })
  test('without another full node a full node has nothing to catch up with, and a light node has not caught up', async () => {
    const alone = node('full-1', 'full', () => 4)
    const down = node('full-2', 'full', () => undefined)
    expect(await untilLevel(alone, [alone, down], soon)).toMatchObject({ type: 'level', height: 4 })
    const light = node('light-1', 'coordination', () => 4)
    expect(await untilLevel(light, [down, light], soon)).toMatchObject({
      detail: expect.stringMatching(/no full node answers/),
    })
  })
})

describe('chaos measures', () => {
  test('percentiles by nearest rank', () => {
    expect(spreadOf([])).toEqual({ count: 0, median: null, p99: null, max: null })
    expect(spreadOf([3, 1, 2])).toEqual({ count: 3, median: 2, p99: 3, max: 3 })
    expect(spreadOf(Array.from({ length: 200 }, (_, i) => i + 1))).toMatchObject({ median: 100, p99: 198 })
  })
  test('the longest gap reaches into the episode', () => {
    const episode = { fromMs: 100, untilMs: 200 }
    expect(longestGap([0, 90, 120, 190, 260, 900], episode)).toBe(70)
    expect(longestGap([0, 50], episode)).toBeUndefined()
  })
  test('an election counts if a later term was won because of the episode', () => {
    const roles = { leader: 'a', term: 4, followers: [] }
    const ran = { roles, fromMs: 100, untilMs: 200, calmUntilMs: 300 }
    const won = (term: number, atMs: number) => [{ node: 'b', term, atMs }]
    expect(electionTime(ran, won(5, 160))).toBe(60)
    expect(electionTime(ran, won(4, 160))).toBeUndefined()
    expect(electionTime(ran, won(5, 90))).toBeUndefined()
    expect(electionTime(ran, won(5, 250))).toBe(150)
    expect(electionTime(ran, won(5, 310)), 'of the next episode').toBeUndefined()
  })
})

describe('plain client', () => {
  const id = DeviceId('a'.repeat(64)) as unknown as TransactionId
  const source = (name: string, answer: () => Partial<TransactionStatus> | MoteError): ChainSource =>
    ({
      name,
      submit: async () => {
        const given = answer()
        if (given instanceof MoteError) throw given
        return { id, status: 'unknown', ...given }
      },
    }) as unknown as ChainSource
  const never = new AbortController().signal
  const certified = { status: 'certified', height: 3, term: 2 } as Partial<TransactionStatus>

  test('goes on with the next node, sends until certified, and counts what it met', async () => {
    const answers = [new MoteError('no-leader', ''), { status: 'pending' } as const, certified]
    let asked = ''
    const next = (name: string) =>
      source(name, () => {
        asked += name
        return answers.shift() ?? certified
      })
    const client = new PlainClient({ sources: [next('a'), next('b'), next('c')], retryMs: 1 })
    expect(await client.submit(new Uint8Array(), never)).toMatchObject({
      type: 'acknowledged',
      height: 3,
      term: 2,
    })
    expect(asked).toBe('abc')
    expect(Object.fromEntries(client.met)).toEqual({ 'no-leader': 1, 'not-ready': 1 })
  })
  test('invalid and refused for good are final; an unknown failure is not swallowed', async () => {
    const outcome = (answer: Partial<TransactionStatus> | MoteError) =>
      new PlainClient({ sources: [source('a', () => answer)], retryMs: 1 }).submit(new Uint8Array(), never)
    expect(await outcome({ status: 'invalid', code: 'epoch-conflict' })).toMatchObject({ type: 'invalid' })
    expect(await outcome({ status: 'refused', code: 'malformed' })).toMatchObject({ type: 'invalid' })
    await expect(outcome(new MoteError('malformed', ''))).rejects.toThrow()
  })
  test('stopped, it says that the outcome is open', async () => {
    const client = new PlainClient({
      sources: [source('a', () => new MoteError('no-leader', ''))],
      retryMs: 1,
    })
    expect(await client.submit(new Uint8Array(), AbortSignal.timeout(20))).toEqual({ type: 'open' })
  })
})

test('kill-leader: service is back with the first acknowledgement out of a later term, not of an old one that came late', () => {
  const acknowledged = [
    { term: 1, atMs: 90 },
    { term: 1, atMs: 105 },
    { term: 3, atMs: 910 },
    { term: 3, atMs: 900 },
  ]
  expect(firstAcknowledgedAfterTerm(acknowledged, 1)).toBe(900)
  expect(firstAcknowledgedAfterTerm(acknowledged, 3)).toBeUndefined()
})

describe('kill-leader', () => {
  /** Full nodes of which these many answer, followers all. */
  async function run(answering: number, all: number, timeoutMs: number): Promise<unknown> {
    const source = new TestChain().source()
    const status = source.status.bind(source)
    source.status = async () => ({ ...(await status()), role: 'follower' })
    await using served = await serveChain(source)
    const api = (i: number) => (i < answering ? served : { host: '127.0.0.1', port: 1 })
    const nodes = Array.from({ length: all }, (_, i) => ({
      name: `full-${i + 1}`,
      label: 'full',
      api: api(i),
    }))
    const directory = mkdtempSync(join(tmpdir(), 'mote-kill-leader-'))
    try {
      const keys = await KeyDirectory.open(layout.operator(directory))
      await keys.store(keysOf('operator'))
      const client = {
        chainId: new TestChain().chainId,
        submit: () => Promise.reject(new MoteError('no-leader', '')),
      }
      const access = { directory, description: { nodes }, client } as unknown as ChainAccess
      const signal = AbortSignal.timeout(60_000)
      return await killLeader({ access, signal, timeoutMs }).catch((error: unknown) => error)
    } finally {
      rmSync(directory, { recursive: true })
    }
  }

  test('kill-leader: is refused at once where no majority would be left', async () => {
    const began = performance.now()
    for (const [answering, all, why] of [
      [
        1,
        3,
        'not killed: without the leader, 0 of 3 full nodes would be left, and no majority; `mote chaos restart` full-2, full-3 first',
      ],
      [
        2,
        3,
        'not killed: without the leader, 1 of 3 full nodes would be left, and no majority; `mote chaos restart` full-3 first',
      ],
      [
        2,
        2,
        'not killed: without the leader, 1 of 2 full nodes would be left, and no majority; it takes 3 full nodes',
      ],
    ] as const)
      expect(await run(answering, all, 50_000)).toMatchObject({ code: 'no-leader', detail: why })
    expect(performance.now() - began).toBeLessThan(10_000)
  })

  test('kill-leader: its time holds for the wait for a leader', async () => {
    const began = performance.now()
    expect(await run(3, 3, 300)).toMatchObject({
      code: 'no-leader',
      detail: 'no full node leads after 0.3 s',
    })
    expect(performance.now() - began).toBeLessThan(10_000)
  })
})
