/** `mote tx show` and `mote block` by themselves, asking nodes that lie. */
import { expect, test } from 'vitest'
import type { Block } from '../../../chain/block.ts'
import type { Hash } from '../../../chain/brands.ts'
import { signedBody } from '../../../client/submission.ts'
import { type ServedDevnet, serveDevnet } from '../../support/served-devnet.ts'
import { keysOf } from '../../support/test-chain.ts'

/** A block of two transactions at height 2, and the id of the first one. */
async function devnetWithBlock(): Promise<ServedDevnet & { readonly id: string }> {
  const devnet = await serveDevnet({ spares: [] })
  const { chain } = devnet
  const transactions = ['pumps', 'valves'].map(name =>
    signedBody({
      chainId: chain.chainId,
      body: { type: 'group.create', name, epochKeyHash: undefined },
      keys: keysOf('sensor'),
      time: chain.time,
    }),
  )
  const [first] = chain.append(transactions)
  return { ...devnet, id: first!.id }
}

const commands = [
  ['tx show', ({ id }: { readonly id: string }) => ['tx', 'show', id]],
  ['block', () => ['block', '2']],
] as const

function altered(bytes: Uint8Array | undefined): Uint8Array {
  const copy = Uint8Array.from(bytes ?? [])
  copy[copy.length - 70]! ^= 1
  return copy
}

const lies: readonly (readonly [string, (block: Block) => Block])[] = [
  [
    'an altered transaction',
    ({ transactions: [first, ...rest], ...block }) => ({ ...block, transactions: [altered(first), ...rest] }),
  ],
  ['no transactions', block => ({ ...block, transactions: [] })],
  [
    'another outcome',
    block => ({
      ...block,
      receipts: block.receipts.map(receipt => ({ ...receipt, code: 'not-authorised' as const })),
    }),
  ],
  [
    'an altered header',
    block => ({ ...block, header: { ...block.header, stateRoot: '1'.repeat(64) as Hash } }),
  ],
  ['another block', block => ({ ...block, header: { ...block.header, height: 1 as never } })],
]
test.each(commands)('%s: shows what is proven, and says so', async (_, argumentsOf) => {
  await using devnet = await devnetWithBlock()
  const args = argumentsOf(devnet)
  const { code, stdout, notes } = await devnet.mote(...args, '--json')
  expect(code, notes).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject({ height: 2, verified: true, asOf: { height: 2 } })
  const text = await devnet.mote(...args)
  expect(text.stdout).toContain(devnet.id)
  expect(text.stdout).toMatch(/^verified at height 2, term 1, /m)
})

test.each(
  commands.flatMap(([command, argumentsOf]) =>
    lies.map(([name, lie]) => ({ command, argumentsOf, name, lie })),
  ),
)(
  '$command: $name, served by every node, is bad-proof, and nothing is shown',
  async ({ argumentsOf, lie }) => {
    await using devnet = await devnetWithBlock()
    for (const source of devnet.sources) source.tamperBlock = lie
    for (const flags of [[], ['--json']]) {
      const { code, stdout, notes } = await devnet.mote(...argumentsOf(devnet), ...flags)
      expect(code).toBe(1)
      expect(`${stdout}${notes}`).toContain('bad-proof')
      expect(stdout).not.toContain('verified')
    }
  },
)

test.each(commands)('%s: one node that lies is passed over', async (_, argumentsOf) => {
  await using devnet = await devnetWithBlock()
  devnet.sources[0]!.tamperBlock = block => ({ ...block, transactions: [] })
  const { code, stdout } = await devnet.mote(...argumentsOf(devnet), '--json')
  expect(code).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject({ verified: true })
  expect(devnet.sources.map(({ asked }) => asked.get('block'))).toEqual([1, 1, undefined])
})

test('tx show: a place in a block that the transaction is not in is not-found', async () => {
  await using devnet = await devnetWithBlock()
  for (const source of devnet.sources) source.tamperStatus = status => ({ ...status, height: 1 as never })
  const { code, stdout, notes } = await devnet.mote('tx', 'show', devnet.id)
  expect([code, stdout]).toEqual([3, ''])
  expect(notes).toContain('not in block 1, whatever its status says')
})
