/** Restoring a ledger from a node's storage. */
import { describe, expect, test } from 'vitest'
import { Height } from '../../../chain/brands.ts'
import { type LedgerParts, restoreLedger } from '../../../chain/ledger.ts'
import { stateKeyOf } from '../../../chain/records.ts'
import { emptyTree, entries, rootOf, update } from '../../../chain/state-tree.ts'
import { type Actor, devices, partsOf, restoredOf, SampleLedger } from './sample-ledger.ts'

const [device] = devices as [Actor]

function grown(): SampleLedger {
  const chain = new SampleLedger()
  for (const name of ['a', 'b', 'c'])
    chain.run(device, { type: 'group.create', name, epochKeyHash: undefined })
  return chain
}

function codeOf(parts: LedgerParts): string {
  const restored = restoreLedger(parts)
  return restored.ok ? 'ok' : restored.error.code
}

describe('ledger', () => {
  test('ledger: a restored one continues with the same headers', () => {
    const chain = grown()
    const twin = grown()
    twin.ledger = restoredOf(chain.ledger)
    expect(twin.ledger.headerHash).toBe(chain.ledger.headerHash)
    const wire = chain.sign(device, { type: 'group.create', name: 'd', epochKeyHash: undefined })
    expect(twin.execute(wire).headerHash).toBe(chain.execute(wire).headerHash)
  })

  test('ledger: a restored one still refuses what was executed before', () => {
    const chain = grown()
    const wire = chain.sign(device, { type: 'group.create', name: 'd', epochKeyHash: undefined })
    chain.execute(wire)
    chain.ledger = restoredOf(chain.ledger)
    expect(chain.execute(wire).receipts[0]?.code).toBe('duplicate')
  })

  test('ledger: storage that lacks or alters anything is refused', () => {
    const chain = grown()
    const parts = partsOf(chain.ledger)
    const leaves = [...entries(chain.ledger.tree)]
    expect(codeOf({ ...parts, leaves })).toBe('ok')
    expect(codeOf({ ...parts, leaves: leaves.slice(1) })).toBe('storage-corrupt')
    expect(codeOf({ ...parts, leaves, replay: [] })).toBe('storage-corrupt')
    expect(codeOf({ ...parts, leaves, replay: [{ slot: 1, ids: new Uint8Array(3) }] })).toBe(
      'storage-corrupt',
    )
    const { size, peaks } = parts.historyFrontier
    const frontier = (historyFrontier: LedgerParts['historyFrontier']) =>
      codeOf({ ...parts, leaves, historyFrontier })
    expect(frontier({ size, peaks: [...peaks].reverse() })).toBe('storage-corrupt')
    expect(frontier({ size: size + 1, peaks })).toBe('storage-corrupt')
    const header = { ...parts.header, height: Height(parts.header.height + 1) }
    expect(codeOf({ ...parts, leaves, header })).toBe('storage-corrupt')
  })

  test('ledger: a state without parameters is refused', () => {
    const chain = grown()
    const leaves = [...entries(chain.ledger.tree)].filter(([key]) => key !== stateKeyOf.parameters())
    const header = { ...chain.ledger.header, stateRoot: rootOf(update(emptyTree, new Map(leaves))) }
    expect(codeOf({ ...partsOf(chain.ledger), leaves, header })).toBe('storage-corrupt')
    const broken = [...leaves, [stateKeyOf.parameters(), Uint8Array.of(1)] as const]
    const other = { ...header, stateRoot: rootOf(update(emptyTree, new Map(broken))) }
    expect(codeOf({ ...partsOf(chain.ledger), leaves: broken, header: other })).toBe('storage-corrupt')
  })
})
