/** A block is believed only whole, and only under a certificate: whoever serves it may alter nothing and leave out nothing. */
import { expect, test } from 'vitest'
import type { Block, Receipt } from '../../../chain/block.ts'
import type { Hash } from '../../../chain/brands.ts'
import type { CertifiedHeader } from '../../../chain/light-client.ts'
import { proveBlock } from '../../../client/block-proof.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { signedBody } from '../../../client/submission.ts'
import { keysOf, TestChain, type TestSource } from '../../support/test-chain.ts'

const sensor = keysOf('sensor')
const [two, three, four] = ['full-2', 'full-3', 'full-4'].map(keysOf)

/** A chain with a block of two transactions, `gap` blocks without certificate from it on, and what comes later. */
function chainWithBlock(gap = 0): { chain: TestChain; block: Block } {
  const chain = new TestChain({ devices: ['sensor'], spares: ['full-4'] })
  chain.append()
  const transactions = ['a', 'b'].map(name =>
    signedBody({
      chainId: chain.chainId,
      body: { type: 'group.create', name, epochKeyHash: undefined },
      keys: sensor,
      time: chain.time,
    }),
  )
  const receipts = chain.append(transactions, { certify: gap === 0 })
  const block = { header: chain.ledger.header, transactions, receipts }
  for (let i = 1; i < gap; i++) chain.append([], { certify: false })
  chain.append()
  return { chain, block }
}

const prove = (chain: TestChain, block: Block, source: TestSource = chain.source()) =>
  proveBlock(source, { checkpoint: chain.checkpoint, verifier: nativeVerifier }, block)

test('block proof: holds under its own certificate, and under that of a descendant', async () => {
  for (const gap of [0, 1, 5, 70]) {
    const { chain, block } = chainWithBlock(gap)
    await prove(chain, block)
  }
})

test('block proof: holds on either side of a change of the consenters', async () => {
  const { chain, block } = chainWithBlock(2)
  chain.changeConsenters([two!, three!, four!])
  const receipts = chain.append()
  await prove(chain, block)
  await prove(chain, { header: chain.ledger.header, transactions: [], receipts })
})

test('block proof: the genesis is the checkpoint itself', async () => {
  const { chain } = chainWithBlock()
  const { header } = chain.checkpoint
  await prove(chain, { header, transactions: [], receipts: [] })
  const other = { ...header, time: header.time + 1 } as typeof header
  await expect(prove(chain, { header: other, transactions: [], receipts: [] })).rejects.toMatchObject({
    code: 'bad-proof',
  })
})

test('block proof: an altered, missing, added or swapped transaction or receipt is bad-proof', async () => {
  const { chain, block } = chainWithBlock(3)
  const [first, second] = block.transactions as [Uint8Array, Uint8Array]
  const [ok] = block.receipts as [Receipt]
  const altered = Uint8Array.from(first)
  altered[10]! ^= 1
  const lies: Partial<Block>[] = [
    { transactions: [altered, second] },
    { transactions: [first] },
    { transactions: [second, first] },
    { transactions: [first, second, second] },
    { transactions: [] },
    { receipts: [ok] },
    { receipts: [...block.receipts].reverse() },
    { receipts: block.receipts.map(receipt => ({ ...receipt, code: 'not-authorised' as const })) },
    { header: { ...block.header, stateRoot: '1'.repeat(64) as Hash } },
  ]
  for (const lie of lies)
    await expect(prove(chain, { ...block, ...lie }), JSON.stringify(Object.keys(lie))).rejects.toMatchObject({
      code: 'bad-proof',
    })
})

test('block proof: a header chain with a foreign link, a wrong signature or no certificate is refused', async () => {
  const { chain, block } = chainWithBlock(3)
  const { height } = block.header
  const tampered = (change: (entry: CertifiedHeader) => CertifiedHeader): TestSource => {
    const source = chain.source()
    source.tamperHeader = change
    return source
  }
  const foreign = tampered(entry =>
    entry.header.height === height + 1
      ? { ...entry, header: { ...entry.header, previousHash: '2'.repeat(64) as Hash } }
      : entry,
  )
  await expect(prove(chain, block, foreign)).rejects.toMatchObject({ code: 'bad-header' })
  const unsigned = tampered(entry => ({
    ...entry,
    certificate: entry.certificate && { ...entry.certificate, signatures: [] },
  }))
  await expect(prove(chain, block, unsigned)).rejects.toMatchObject({ code: 'bad-certificate' })
  const without = tampered(entry => ({ ...entry, certificate: undefined }))
  await expect(prove(chain, block, without)).rejects.toMatchObject({ code: 'stale' })
})
