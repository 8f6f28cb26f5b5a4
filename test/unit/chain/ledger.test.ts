/** Ledger snapshots and restoring a ledger from a node's storage. */
import { describe, expect, test } from 'vitest'
import { Hash, Height, StateKey } from '../../../chain/brands.ts'
import { decode, encode } from '../../../chain/codec.ts'
import {
  decodeLedgerSnapshot,
  encodeLedgerSnapshot,
  historyFrontierCodec,
  type LedgerParts,
  restoreLedger,
} from '../../../chain/ledger.ts'
import { stateKeyOf } from '../../../chain/records.ts'
import { unwrap } from '../../../chain/result.ts'
import { emptyTree, entries, rootOf, update } from '../../../chain/state-tree.ts'
import { type Actor, devices, SampleLedger } from './sample-ledger.ts'

const [device] = devices as [Actor]
const max = 1 << 24

function grown(): SampleLedger {
  const chain = new SampleLedger()
  for (const name of ['a', 'b', 'c'])
    chain.run(device, { type: 'group.create', name, epochKeyHash: undefined })
  return chain
}

function partsOf({ ledger }: SampleLedger): LedgerParts {
  return {
    header: ledger.header,
    leaves: entries(ledger.tree),
    replay: ledger.replay.stored(),
    historyFrontier: unwrap(
      decode(
        historyFrontierCodec,
        encode(historyFrontierCodec, { size: ledger.history.size, peaks: ledger.history.peaks }),
      ),
    ),
  }
}

function codeOf(parts: LedgerParts): string {
  const restored = restoreLedger(parts)
  return restored.ok ? 'ok' : restored.error.code
}

describe('ledger', () => {
  test('ledger: a restored one continues with the same headers', () => {
    const chain = grown()
    const twin = grown()
    twin.ledger = unwrap(restoreLedger(partsOf(chain)))
    expect(twin.ledger.headerHash).toBe(chain.ledger.headerHash)
    const wire = chain.sign(device, { type: 'group.create', name: 'd', epochKeyHash: undefined })
    expect(twin.execute(wire).headerHash).toBe(chain.execute(wire).headerHash)
  })

  test('ledger: a restored one still refuses what was executed before', () => {
    const chain = grown()
    const wire = chain.sign(device, { type: 'group.create', name: 'd', epochKeyHash: undefined })
    chain.execute(wire)
    chain.ledger = unwrap(decodeLedgerSnapshot(encodeLedgerSnapshot(chain.ledger), max))
    expect(chain.execute(wire).receipts[0]?.code).toBe('duplicate')
  })

  test('ledger: storage that lacks or alters anything is refused', () => {
    const chain = grown()
    const parts = partsOf(chain)
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
    expect(codeOf({ ...partsOf(chain), leaves, header })).toBe('storage-corrupt')
    const broken = [...leaves, [stateKeyOf.parameters(), Uint8Array.of(1)] as const]
    const other = { ...header, stateRoot: rootOf(update(emptyTree, new Map(broken))) }
    expect(codeOf({ ...partsOf(chain), leaves: broken, header: other })).toBe('storage-corrupt')
  })

  test('snapshot: any changed byte is refused', () => {
    const snapshot = encodeLedgerSnapshot(grown().ledger)
    for (let at = 0; at < snapshot.length; at += 7) {
      const changed = Uint8Array.from(snapshot)
      changed[at]! ^= 1
      const decoded = decodeLedgerSnapshot(changed, max)
      // A header field that no root binds makes another header, which no certificate covers.
      if (decoded.ok) expect(decoded.value.headerHash).not.toBe(grown().ledger.headerHash)
    }
    expect(decodeLedgerSnapshot(snapshot, snapshot.length - 1)).toMatchObject({
      error: { code: 'too-large' },
    })
    expect(decodeLedgerSnapshot(snapshot.slice(0, -1), max)).toMatchObject({ error: { code: 'malformed' } })
  })

  test('snapshot: leaves that are out of order, cut or too long are refused as such', () => {
    const { ledger } = grown()
    const snapshot = encodeLedgerSnapshot(ledger)
    const leaves = [...entries(ledger.tree)]
    const sizes = leaves.map(([, value]) => 36 + value.length)
    const total = sizes.reduce((sum, size) => sum + size, 0)
    const start = Buffer.from(snapshot).indexOf(Buffer.from(leaves[0]![0], 'hex'))
    const code = (change: (part: Uint8Array) => Uint8Array) => {
      const changed = Uint8Array.from(snapshot)
      changed.set(change(changed.slice(start, start + total)), start)
      const decoded = decodeLedgerSnapshot(changed, max)
      return decoded.ok ? 'ok' : decoded.error.code
    }
    const last = total - sizes.at(-1)!
    const withLength = (difference: number) => (part: Uint8Array) => {
      const view = new DataView(part.buffer)
      view.setUint32(last + 32, view.getUint32(last + 32) + difference)
      return part
    }
    expect(code(part => part)).toBe('ok')
    expect(code(withLength(1))).toBe('malformed')
    expect(code(withLength(-10))).toBe('malformed')
    const [first, second] = sizes as [number, number]
    const swapped = (part: Uint8Array) =>
      Buffer.concat([
        part.subarray(first, first + second),
        part.subarray(0, first),
        part.subarray(first + second),
      ])
    expect(code(swapped)).toBe('malformed')
  })

  test('snapshot: one ledger has one encoding, whatever its history of restores', () => {
    const { ledger } = grown()
    const snapshot = encodeLedgerSnapshot(ledger)
    expect(encodeLedgerSnapshot(unwrap(decodeLedgerSnapshot(snapshot, max)))).toEqual(snapshot)
    expect(StateKey(rootOf(ledger.tree)) as string).toBe(Hash(ledger.header.stateRoot))
  })
})
