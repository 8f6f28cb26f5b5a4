/** What a receiver takes of a snapshot's head: nothing that its own trusted head does not lead to. */
import { describe, expect, test } from 'vitest'
import { consenterSet } from '../../../chain/consenters.ts'
import { type CertifiedHeader, trustedHeadOf } from '../../../chain/light-client.ts'
import { stateKeyOf } from '../../../chain/records.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import type { Configuration } from '../../../consensus/types.ts'
import { SnapshotAssembly, SnapshotStream } from '../../../node/ledger/snapshot-stream.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'
import { TestChain } from '../../support/test-chain.ts'

/** Two handovers, at `first` and `second`, and blocks around them. */
const chain = new TestChain({ spares: ['full-4', 'full-5'] })
const [one, two, three] = chain.fullNodes
chain.append()
const first = chain.changeConsenters([one!, two!, chain.spares[0]!])
chain.append()
const second = chain.changeConsenters([two!, chain.spares[0]!, chain.spares[1]!])
chain.append()
const handovers = [first, second].map(height => chain.served(height))
const head = chain.served(chain.height)

interface Receiver {
  certified?: number
  height?: number
  /** Who the members at its place are said to be. */
  members?: Configuration
  /** Where the snapshot is said to stand. */
  place?: { readonly index: number; readonly term: number }
}

const voters = [two!, ...chain.spares].map(({ id }) => id as string)
const configuration = { voters, votersOutgoing: [], learners: [] }

/** A receiver whose newest certified block is at `certified`, and that has executed blocks up to `height`. */
function receive(
  { certified = 0, height = certified, place = head.header, members = configuration }: Receiver,
  sent: { handovers: readonly CertifiedHeader[]; head?: CertifiedHeader },
) {
  const source = { ledger: chain.ledger, head, ...sent }
  const stream = new SnapshotStream(source)
  const trusted = trustedHeadOf(chain.at(certified).ledger)
  const said = { lastIncludedIndex: place.index, lastIncludedTerm: place.term, configuration: members }
  const judge = {
    height: chain.at(height).ledger.header.height,
    place: said,
    trusted,
    verifier: nativeVerifier,
  }
  const assembly = new SnapshotAssembly({ ...judge, maxBytes: 1e9 })
  for (let index = 0; ; index++) {
    const added = assembly.add(stream.chunk(index)!)
    if (!added.ok) return added
    if (added.value === 'end') return assembly.finish()
  }
}

describe('snapshot head', () => {
  test.each([
    { certified: 0, taken: [first, second] },
    { certified: first - 1, taken: [first, second] },
    { certified: first, taken: [second] },
    { certified: second, taken: [] },
  ])('handovers above the trusted head $certified are verified and taken', ({ certified, taken }) => {
    const result = receive({ certified }, { handovers })
    expect(result.ok && result.value.handovers.map(({ header }) => header.height)).toEqual(taken)
  })

  test('without a certificate it is refused', () => {
    const result = receive({}, { handovers, head: { ...head, certificate: undefined } })
    expect(result).toMatchObject({ error: { code: 'bad-certificate' } })
  })

  const { index, term } = head.header
  test.each([
    ['a later index', { index: index + 1, term }],
    ['an earlier index', { index: index - 1, term }],
    ['another term', { index, term: term + 1 }],
  ])('said to stand at %s than its header names, it is refused', (_what, place) => {
    expect(receive({ place }, { handovers })).toMatchObject({ error: { code: 'bad-header' } })
  })

  test.each([
    ['nobody of its state', { ...configuration, voters: ['evil'] }, false],
    ['some of its state', { ...configuration, voters: voters.slice(1) }, false],
    ['its consenters with another', { ...configuration, voters: [...voters, 'evil'] }, false],
    ['its consenters on the way out', { ...configuration, voters: ['next'], votersOutgoing: voters }, true],
    ['its consenters on the way in', { ...configuration, votersOutgoing: ['before'] }, true],
  ])('members that are %s', (_name, members, taken) => {
    const result = receive({ members }, { handovers })
    expect(result.ok ? 'taken' : result.error.code).toBe(taken ? 'taken' : 'bad-header')
  })

  test('a handover that is executed and not proven here is verified like any other', () => {
    const result = receive({ certified: first - 1, height: first }, { handovers })
    expect(result.ok && result.value.handovers).toHaveLength(2)
  })

  test('one that is missing is missed', () => {
    expect(receive({}, { handovers: handovers.slice(1) })).toMatchObject({ error: { code: 'bad-header' } })
  })

  const evil = sampleIdentity('evil')
  const set = consenterSet([{ id: evil.id, key: evil.signer.publicKey }], 'majority')
  const forged: CertifiedHeader = {
    ...handovers[0]!,
    handover: { consenters: set, certificate: handovers[0]!.certificate! },
  }

  test('one below the trusted head is not taken, and so cannot be forged', () => {
    const result = receive({ certified: second }, { handovers: [forged, handovers[1]!] })
    expect(result.ok && result.value.handovers).toEqual([])
  })

  test.each([
    ['another set', forged],
    ['no certificate of the new set', { ...handovers[0]!, handover: undefined }],
    ['no certificate', { ...handovers[0]!, certificate: undefined }],
    ['other changes', { ...handovers[0]!, changes: [stateKeyOf.identity(three!.id)] }],
  ])('with %s it is refused, and the snapshot with it', (_what, bad) => {
    const result = receive({}, { handovers: [bad, handovers[1]!] })
    expect(result.ok).toBe(false)
  })
})
