/**
 * Two nodes without state of their own say hello to each other while the consenters change: real proofs of a real chain,
 * shown and judged by the providers that the programs use (node/light/identities.ts).
 */
import { describe, expect, it } from 'vitest'
import { decode } from '../../../chain/codec.ts'
import { stateAnswerCodec } from '../../../chain/light-client.ts'
import { stateKeyOf } from '../../../chain/records.ts'
import { ChainClient } from '../../../client/chain-client.ts'
import type { CheckpointStore } from '../../../client/checkpoint-file.ts'
import { systemClock } from '../../../client/clock.ts'
import type { IdentityKeys } from '../../../client/key-directory.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { LightIdentityProvider, PassedHandovers } from '../../../node/light/identities.ts'
import { judgeHello, ownHello } from '../../../node/network/hello.ts'
import { keysOf, TestChain, type TestSource } from '../../support/test-chain.ts'

const [two, three, four] = ['full-2', 'full-3', 'full-4'].map(keysOf)
const second = [two!, three!, four!]
const third = [three!, four!]
const coordinator = keysOf('coordination-1')
const sensor = keysOf('sensor')

const freshChain = (): TestChain => new TestChain({ devices: ['sensor'], spares: ['full-4'] })

function memoryStore(): CheckpointStore & { bytes: Uint8Array | undefined } {
  const store = {
    bytes: undefined as Uint8Array | undefined,
    load: async () => store.bytes,
    save: async (bytes: Uint8Array) => {
      store.bytes = bytes
    },
  }
  return store
}

/** What a node keeps between two runs. */
const newDisk = () => ({ checkpoint: memoryStore(), proof: memoryStore(), handovers: memoryStore() })

interface LightNode {
  readonly source: TestSource
  readonly keys: IdentityKeys
  readonly identities: LightIdentityProvider
  /** Catches up, and makes the proof of its own record anew where that is wanted, as `LightChain` does. */
  catchUp(): Promise<void>
  /** Ends it, everything stored. */
  stop(): Promise<void>
}

async function lightNode(
  chain: TestChain,
  keys: IdentityKeys,
  { disk = newDisk(), longestRun = 1_024 } = {},
): Promise<LightNode> {
  const source = chain.source()
  const handovers = await PassedHandovers.open(disk.handovers)
  const client = await ChainClient.open({
    sources: [source],
    checkpoint: chain.checkpoint,
    store: handovers.beforeCheckpoints(disk.checkpoint),
    saveEveryMs: 0,
    longestRun,
    clock: { ...systemClock, wall: () => chain.time },
  })
  handovers.follow(client.follower)
  const identities = await LightIdentityProvider.open({
    deviceId: keys.id,
    genesis: chain.genesis,
    records: client.records,
    handovers,
    verifier: nativeVerifier,
    proofStore: disk.proof,
    isFresh: () => true,
  })
  let isWanted = true
  client.follower.onAdvance(event => {
    isWanted ||= identities.isProofOverdue(event)
  })
  return {
    source,
    keys,
    identities,
    catchUp: async () => {
      await client.follower.sync()
      if (!isWanted) return
      isWanted = false
      await identities.showProof(await client.records.stateProof(stateKeyOf.identity(keys.id)))
    },
    stop: () => client.follower.save(),
  }
}

/** What `judge` makes of the hello of `peer`: the height of the record, or why not. */
function judged(judge: LightNode, peer: LightNode): string {
  const result = judgeHello(judge.identities, ownHello(peer.identities), peer.keys.transport!.publicKey)
  return result.ok ? 'taken' : `${result.error.code}: ${result.error.detail}`
}

function shownHeight({ identities }: LightNode): number | undefined {
  const proof = identities.ownProof()
  const answer = proof.type === 'certified' ? decode(stateAnswerCodec, proof.answer) : undefined
  return answer?.ok ? answer.value.height : undefined
}

describe('light nodes after the consenters have changed', () => {
  it('light identities: a newcomer takes a node whose proof other consenters signed', async () => {
    const chain = freshChain()
    const old = await lightNode(chain, coordinator)
    for (const set of [second, third]) {
      chain.changeConsenters(set)
      await old.catchUp()
      chain.append()
      await old.catchUp()
    }
    const newcomer = await lightNode(chain, sensor)
    expect(judged(newcomer, old)).toBe('taken')
  })

  it('light identities: a node that has passed a handover takes one whose proof was made at it, a block later', async () => {
    const chain = freshChain()
    const [old, sees] = [await lightNode(chain, coordinator), await lightNode(chain, sensor)]
    const handover = chain.changeConsenters(second)
    await Promise.all([old.catchUp(), sees.catchUp()])
    expect(shownHeight(old)).toBe(handover)
    expect(judged(sees, old)).toBe('taken')
    chain.append()
    await Promise.all([old.catchUp(), sees.catchUp()])
    expect(shownHeight(old)).toBe(handover + 1)
    expect(judged(sees, old)).toBe('taken')
    // Once is enough: what follows needs no newer proof.
    chain.append()
    await Promise.all([old.catchUp(), sees.catchUp()])
    expect(shownHeight(old)).toBe(handover + 1)
  })

  it('light identities: one that is still below the handover takes one that is above', async () => {
    const chain = freshChain()
    chain.append()
    const [ahead, behind] = [await lightNode(chain, coordinator), await lightNode(chain, sensor)]
    await behind.catchUp()
    chain.changeConsenters(second)
    chain.append()
    await ahead.catchUp()
    expect(judged(behind, ahead)).toBe('taken')
    // The one behind shows what the set of before signed, which is refused until it has caught up.
    expect(judged(ahead, behind)).toMatch(/^stale: /)
    await behind.catchUp()
    expect(judged(ahead, behind)).toBe('taken')
  })

  it('light identities: a restarted node shows the handovers that it passed before', async () => {
    const chain = freshChain()
    const disk = newDisk()
    const before = await lightNode(chain, coordinator, { disk })
    for (const set of [second, third]) {
      chain.changeConsenters(set)
      chain.append()
      await before.catchUp()
    }
    await before.stop()
    const after = await lightNode(chain, coordinator, { disk })
    expect(shownHeight(after)).toBe(shownHeight(before))
    expect(judged(await lightNode(chain, sensor), after)).toBe('taken')
  })

  it('light identities: handovers are stored before the checkpoint that lies above them', async () => {
    const chain = freshChain()
    const disk = newDisk()
    disk.handovers.save = () => Promise.reject(new Error('disk full'))
    const node = await lightNode(chain, coordinator, { disk })
    chain.changeConsenters(second)
    chain.append()
    await node.catchUp()
    await node.stop()
    expect(disk.checkpoint.bytes).toBeUndefined()
  })

  it('light identities: a node that skips keeps the handovers that it skips to', async () => {
    const chain = freshChain()
    const old = await lightNode(chain, coordinator, { longestRun: 5 })
    chain.changeConsenters(second)
    for (let i = 0; i < 20; i++) chain.append()
    await old.catchUp()
    expect(old.source.asked.get('headersFrom'), 'it has skipped').toBeUndefined()
    expect(judged(await lightNode(chain, sensor), old)).toBe('taken')
  })
})
