import { describe, expect, it } from 'vitest'
import type { Receipt } from '../../../chain/block.ts'
import type { Hash, Milliseconds } from '../../../chain/brands.ts'
import { MoteError } from '../../../chain/result.ts'
import { CertifiedBlocks } from '../../../client/certified-blocks.ts'
import { ChainClient } from '../../../client/chain-client.ts'
import { signedBody } from '../../../client/submission.ts'
import { deployable } from '../../support/sample-contract.ts'
import { TestChain, type TestSource } from '../../support/test-chain.ts'

const always = 0 as Milliseconds

/** A chain on which every third block wrote something. */
class Busy {
  readonly chain = new TestChain()
  #version = 0

  grow(blocks: number): void {
    for (let i = 0; i < blocks; i++) this.chain.append(this.chain.height % 3 === 2 ? [this.#deploy()] : [])
  }

  /** Another version of a contract. */
  #deploy(): Uint8Array {
    const { chainId, time, operator } = this.chain
    this.#version += 1
    const { bytes: contract } = deployable({ version: this.#version })
    return signedBody({ chainId, body: { type: 'contract.deploy', contract }, keys: operator, time })
  }

  async follow(source: TestSource, more: TestSource[] = []) {
    const client = await ChainClient.open({
      sources: [source, ...more],
      checkpoint: this.chain.checkpoint,
      longestRun: 8,
    })
    const blocks = new CertifiedBlocks(client.follower, client.pool)
    await client.follower.sync()
    return { client, blocks }
  }
}

const heights = ({ blocks }: { blocks: readonly { readonly height: number }[] }) =>
  blocks.map(({ height }) => height)
const multiples = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i).filter(height => height % 3 === 0)

describe('certified blocks', () => {
  it('certified blocks: what the follower has walked over costs no request, and quiet blocks are left out', async () => {
    const busy = new Busy()
    busy.grow(6)
    const source = busy.chain.source()
    const { client, blocks } = await busy.follow(source)
    busy.grow(6)
    await client.follower.sync()
    const before = source.asked.get('headersFrom')
    const range = await blocks.above(4, always)
    expect(range.head).toBe(12)
    expect(heights(range)).toEqual([6, 9, 12])
    expect(source.asked.get('headersFrom')).toBe(before)
    expect(heights(await blocks.above(12, always))).toEqual([])
  })

  it('certified blocks: after a skip it goes down link by link, page by page, to the height or the time', async () => {
    const busy = new Busy()
    busy.grow(1_300)
    const { blocks } = await busy.follow(busy.chain.source())
    expect(heights(await blocks.above(0, always))).toEqual(multiples(1, 1_300))
    expect(heights(await blocks.above(777, always))).toEqual(multiples(778, 1_300))
    const { time } = busy.chain.at(1_000).ledger.header
    expect(heights(await blocks.above(0, time))).toEqual(multiples(1_000, 1_300))
  })

  it('certified blocks: it crosses changes of the consenters without their certificates', async () => {
    const busy = new Busy()
    busy.grow(20)
    busy.chain.changeConsenters(busy.chain.fullNodes.slice(0, 2))
    busy.grow(30)
    const { blocks } = await busy.follow(busy.chain.source())
    const found = heights(await blocks.above(0, always))
    expect(found).toContain(3)
    expect(found).toContain(21)
  })

  it('certified blocks: a header that is not the one below is refused, and the next source asked', async () => {
    const busy = new Busy()
    busy.grow(100)
    const { blocks } = await busy.follow(liar(busy.chain, 50))
    await expect(blocks.above(0, always)).rejects.toMatchObject({ code: 'bad-header' })
    const { blocks: both } = await busy.follow(liar(busy.chain, 50), [busy.chain.source('second')])
    expect(heights(await both.above(0, always))).toEqual(multiples(1, 100))
  })

  it('certified blocks: receipts are those of the header, or bad-proof', async () => {
    const busy = new Busy()
    busy.grow(6)
    const source = busy.chain.source()
    const { blocks } = await busy.follow(source)
    const [block] = (await blocks.above(2, always)).blocks
    expect(await blocks.receipts(block!)).toEqual(busy.chain.block(3).receipts)
    const lies: readonly ((receipts: readonly Receipt[]) => readonly Receipt[])[] = [
      () => [],
      receipts => [...receipts, ...receipts],
      receipts => receipts.map(receipt => ({ ...receipt, events: [] })),
    ]
    for (const lie of lies) {
      const lying = busy.chain.source()
      const { blocks: other } = await busy.follow(lying)
      lying.tamperReceipts = lie
      await expect(other.receipts(block!)).rejects.toMatchObject({ code: 'bad-proof' })
    }
  })

  it('certified blocks: those who want the receipts of a block at the same time ask once, and a failure is not kept', async () => {
    const busy = new Busy()
    busy.grow(6)
    const source = busy.chain.source()
    const { blocks } = await busy.follow(source)
    const [block] = (await blocks.above(2, always)).blocks
    source.failure = new MoteError('unreachable', 'down')
    await expect(blocks.receipts(block!)).rejects.toMatchObject({ code: 'unreachable' })
    source.failure = undefined
    const before = source.asked.get('receipts') ?? 0
    const [one, two] = await Promise.all([blocks.receipts(block!), blocks.receipts(block!)])
    expect(one).toEqual(busy.chain.block(3).receipts)
    expect(two).toBe(one)
    expect(source.asked.get('receipts')).toBe(before + 1)
  })
})

/** Serves another header at this height. */
function liar(chain: TestChain, height: number): TestSource {
  const source = chain.source('liar')
  source.tamperHeader = entry =>
    entry.header.height === height
      ? { ...entry, header: { ...entry.header, receiptsRoot: '1'.repeat(64) as Hash } }
      : entry
  return source
}
