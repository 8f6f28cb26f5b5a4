import { describe, expect, test } from 'vitest'
import { ChainId, DeviceId, Hash, Height, Milliseconds, Term } from '../../../chain/brands.ts'
import { type Certificate, certificateSigningBytes, verifyCertificate } from '../../../chain/certificate.ts'
import { consenterSet } from '../../../chain/consenters.ts'
import { deviceIdOf } from '../../../chain/keys.ts'
import type { Handover } from '../../../chain/light-client.ts'
import { nobleVerifier, signerFromSeed } from '../../../chain/noble-crypto.ts'
import { Certifier } from '../../../node/ledger/certifier.ts'
import type { BlockToSign } from '../../../node/ledger/live-chain.ts'
import type { Disagreement } from '../../../node/ledger/signatures.ts'
import type { SignatureMessage } from '../../../node/ports.ts'

const chainId = ChainId('c'.repeat(64))
const signers = [1, 2, 3].map(n => signerFromSeed('ed25519', new Uint8Array(32).fill(n)))
const ids = signers.map(signer => deviceIdOf(signer.publicKey))
const set = consenterSet(
  signers.map((signer, i) => ({ id: ids[i]!, key: signer.publicKey })),
  'majority',
)
const block = (height: number, hash = 'a'): BlockToSign => ({
  height: Height(height),
  term: Term(1),
  headerHash: Hash(hash.repeat(64)),
})

function setUp(member: number | undefined = 0) {
  const sent: { to: DeviceId | 'all'; signatures: readonly SignatureMessage[] }[] = []
  const certificates: Certificate[] = []
  const disagreements: Disagreement[] = []
  const diverged: string[] = []
  const self = member === undefined ? undefined : { id: ids[member]!, signer: signers[member]! }
  const certifier = new Certifier(
    { chainId, incarnation: 0, consenters: set, self, verifier: nobleVerifier },
    {
      announce: (to, signatures) => sent.push({ to, signatures }),
      certified: certificate => certificates.push(certificate),
      wanted: () => {},
      disagreement: disagreement => disagreements.push(disagreement),
      diverged: detail => diverged.push(detail),
    },
  )
  return { certifier, sent, certificates, disagreements, diverged }
}

function signatureOf(member: number, { height, term, headerHash }: BlockToSign): SignatureMessage {
  const signature = signers[member]!.sign(certificateSigningBytes(chainId, 0, height, headerHash))
  return { incarnation: 0, height, term, headerHash, signature }
}
function executeAndStore(certifier: Certifier, ...blocks: BlockToSign[]) {
  for (const each of blocks) certifier.collect(each)
  certifier.sign(blocks)
}

test('certifier: a signature is announced before anything is verified, and its own is not', () => {
  const happened: string[] = []
  const certifier = new Certifier(
    {
      chainId,
      incarnation: 0,
      consenters: set,
      self: { id: ids[0]!, signer: signers[0]! },
      verifier: {
        verify: (key, message, signature) => {
          happened.push(`verified ${ids.indexOf(deviceIdOf(key))}`)
          return nobleVerifier.verify(key, message, signature)
        },
      },
    },
    {
      announce: () => happened.push('announced'),
      certified: ({ signatures }) => happened.push(`certified by ${signatures.map(({ signer }) => signer)}`),
      wanted: () => {},
      disagreement: () => {},
      diverged: () => {},
    },
  )
  const signerIndexes = (members: number[]) =>
    members.map(member => set.consenters.findIndex(({ id }) => id === ids[member])).sort()
  certifier.receive(ids[1]!, [signatureOf(1, block(1))])
  executeAndStore(certifier, block(1))
  expect(happened).toEqual(['announced', 'verified 1', `certified by ${signerIndexes([0, 1])}`])
})

test('certifier: no signature leaves before the block and its record are durable', () => {
  const { certifier, sent } = setUp()
  certifier.collect(block(1))
  certifier.receive(ids[1]!, [signatureOf(1, block(1))])
  expect(sent).toEqual([])
  certifier.sign([block(1)])
  expect(sent).toMatchObject([{ to: 'all', signatures: [{ height: 1 }] }])
})

test('certifier: a quorum of signatures makes a certificate that verifies', () => {
  const { certifier, certificates } = setUp()
  executeAndStore(certifier, block(1))
  expect(certificates).toEqual([])
  certifier.receive(ids[2]!, [signatureOf(2, block(1))])
  expect(certificates).toHaveLength(1)
  expect(verifyCertificate(set, chainId, 0, certificates[0]!, nobleVerifier).ok).toBe(true)
  expect(certifier.certifiedHeight).toBe(1)
})

test('certifier: signatures that come before the block count once it is executed', () => {
  const { certifier, certificates } = setUp(undefined)
  certifier.receive(ids[0]!, [signatureOf(0, block(1))])
  certifier.receive(ids[1]!, [signatureOf(1, block(1))])
  expect(certificates).toEqual([])
  executeAndStore(certifier, block(1))
  expect(certificates).toHaveLength(1)
})

test('certifier: a signature that does not verify, of a stranger, or of another incarnation does not count', () => {
  const { certifier, certificates } = setUp()
  executeAndStore(certifier, block(1))
  const good = signatureOf(1, block(1))
  certifier.receive(ids[1]!, [{ ...good, signature: signatureOf(2, block(1)).signature }])
  certifier.receive(DeviceId('9'.repeat(64)), [good])
  certifier.receive(ids[1]!, [{ ...good, incarnation: 1 }])
  expect(certificates).toEqual([])
  certifier.receive(ids[1]!, [good])
  expect(certificates).toHaveLength(1)
})

test('certifier: one consenter counts once', () => {
  const { certifier, certificates } = setUp(undefined)
  certifier.collect(block(1))
  certifier.receive(ids[1]!, [signatureOf(1, block(1)), signatureOf(1, block(1))])
  expect(certificates).toEqual([])
})

test('certifier: a certificate covers its ancestors, gaps are legal', () => {
  const { certifier, certificates } = setUp()
  executeAndStore(certifier, block(1), block(2), block(3))
  certifier.receive(ids[1]!, [signatureOf(1, block(3))])
  expect(certificates.map(c => c.height)).toEqual([3])
  certifier.receive(ids[1]!, [signatureOf(1, block(1))])
  expect(certificates).toHaveLength(1)
})

test('certifier: one contradicting consenter is reported, a contradicting quorum stops the node', () => {
  const { certifier, certificates, disagreements, diverged, sent } = setUp()
  executeAndStore(certifier, block(1))
  certifier.receive(ids[1]!, [signatureOf(1, block(1, 'b'))])
  expect(disagreements).toMatchObject([{ consenter: ids[1], height: 1 }])
  expect(diverged).toEqual([])
  certifier.receive(ids[2]!, [signatureOf(2, block(1, 'b'))])
  expect(diverged).toHaveLength(1)
  const before = sent.length
  executeAndStore(certifier, block(2))
  certifier.receive(ids[1]!, [signatureOf(1, block(2))])
  expect(sent).toHaveLength(before)
  expect(certificates).toEqual([])
})

test('certifier: a forged contradiction is no contradiction', () => {
  const { certifier, disagreements, diverged } = setUp()
  executeAndStore(certifier, block(1))
  const forged = { ...signatureOf(1, block(1)), headerHash: Hash('b'.repeat(64)) }
  certifier.receive(ids[1]!, [forged])
  certifier.receive(ids[2]!, [forged])
  expect(disagreements).toEqual([])
  expect(diverged).toEqual([])
})

test('certifier: a certificate for a block not executed yet is judged when it is', () => {
  const certificate: Certificate = {
    height: Height(2),
    headerHash: block(2).headerHash,
    signatures: [0, 1].map(n => ({
      signer: set.consenters.findIndex(c => c.id === ids[n]),
      signature: signatureOf(n, block(2)).signature,
    })),
  }
  const sorted = {
    ...certificate,
    signatures: certificate.signatures.toSorted((a, b) => a.signer - b.signer),
  }
  const right = setUp(undefined)
  expect(right.certifier.adopt(sorted).ok).toBe(true)
  right.certifier.collect(block(1))
  expect(right.certificates).toEqual([])
  right.certifier.collect(block(2))
  expect(right.certifier.certifiedHeight).toBe(2)
  const wrong = setUp(undefined)
  wrong.certifier.adopt(sorted)
  wrong.certifier.collect(block(1, 'b'))
  wrong.certifier.collect(block(2, 'b'))
  expect(wrong.diverged).toHaveLength(1)
  expect(wrong.certifier.adopt({ ...sorted, headerHash: Hash('d'.repeat(64)), height: Height(9) }).ok).toBe(
    true,
  )
  expect(setUp().certifier.adopt({ ...sorted, headerHash: Hash('d'.repeat(64)) })).toMatchObject({
    ok: false,
    error: { code: 'bad-certificate' },
  })
})

test('certifier: what stays uncertified is sent again, to all in time and to a peer that connects', () => {
  const { certifier, sent } = setUp()
  certifier.restore({ consenters: set, certifiedHeight: Height(0), now: Milliseconds(0) })
  executeAndStore(certifier, block(1), block(2))
  sent.length = 0
  certifier.tick(Milliseconds(500))
  expect(sent).toEqual([])
  certifier.tick(Milliseconds(1100))
  expect(sent).toMatchObject([{ to: 'all', signatures: [{ height: 1 }, { height: 2 }] }])
  certifier.connected(ids[2]!)
  expect(sent[1]).toMatchObject({ to: ids[2], signatures: [{ height: 1 }, { height: 2 }] })
})

test('certifier: a peer that lags gets our signatures again, a late signature gets no answer', () => {
  const { certifier, sent } = setUp()
  certifier.restore({ consenters: set, certifiedHeight: Height(0), now: Milliseconds(0) })
  executeAndStore(certifier, block(1))
  certifier.receive(ids[1]!, [signatureOf(1, block(1))])
  sent.length = 0
  certifier.tick(Milliseconds(900))
  certifier.receive(ids[2]!, [signatureOf(2, block(1))])
  expect(sent).toEqual([])
  certifier.tick(Milliseconds(1900))
  certifier.receive(ids[2]!, [signatureOf(2, block(1)), signatureOf(2, block(1))])
  expect(sent).toMatchObject([{ to: ids[2], signatures: [{ height: 1 }] }])
})

test('certifier: after a restart signatures of blocks above the certified height are made again', () => {
  const { certifier, sent } = setUp()
  certifier.restore({ consenters: set, certifiedHeight: Height(5), now: Milliseconds(0) })
  executeAndStore(certifier, block(6))
  expect(sent).toMatchObject([{ to: 'all', signatures: [{ height: 6 }] }])
})

/** Sets of three out of five, and who plays which part. */
const five = [1, 2, 3, 4, 5].map(n => signerFromSeed('ed25519', new Uint8Array(32).fill(n)))
const fiveIds = five.map(signer => deviceIdOf(signer.publicKey))
const setOf = (...members: number[]) =>
  consenterSet(
    members.map(i => ({ id: fiveIds[i]!, key: five[i]!.publicKey })),
    'majority',
  )
const before = setOf(0, 1, 2)
const after = setOf(2, 3, 4)
const handover: BlockToSign = { ...block(1), handover: after }

function handingOver(member?: number) {
  const certificates: { certificate: Certificate; handover: Handover | undefined }[] = []
  const wanted: (Height | undefined)[] = []
  const self = member === undefined ? undefined : { id: fiveIds[member]!, signer: five[member]! }
  const certifier = new Certifier(
    { chainId, incarnation: 0, consenters: before, self, verifier: nobleVerifier },
    {
      announce: () => {},
      certified: (certificate, taken) => certificates.push({ certificate, handover: taken }),
      wanted: height => wanted.push(height),
      disagreement: () => {},
      diverged: () => {},
    },
  )
  const sign = (i: number, signed: BlockToSign) => {
    const signature = five[i]!.sign(certificateSigningBytes(chainId, 0, signed.height, signed.headerHash))
    certifier.receive(fiveIds[i]!, [{ incarnation: 0, ...signed, signature }])
  }
  return { certifier, certificates, wanted, sign }
}

describe('certifier: a handover', () => {
  test.each([
    { signers: [0, 1], missing: 'the new set' },
    { signers: [3, 4], missing: 'the old set' },
    { signers: [0, 1, 3], missing: 'one of the new set' },
  ])('without $missing it is not certified', ({ signers }) => {
    const { certifier, certificates, sign } = handingOver()
    certifier.collect(handover)
    for (const i of signers) sign(i, handover)
    expect(certificates).toEqual([])
  })

  test('a signature of who is in both sets counts in both, and each certificate verifies', () => {
    const { certifier, certificates, sign } = handingOver()
    certifier.collect(handover)
    for (const i of [0, 2, 3]) sign(i, handover)
    const [{ certificate, handover: taken } = { certificate: undefined }] = certificates
    expect(verifyCertificate(before, chainId, 0, certificate!, nobleVerifier).ok).toBe(true)
    expect(verifyCertificate(after, chainId, 0, taken!.certificate, nobleVerifier).ok).toBe(true)
    expect(taken!.consenters).toBe(after)
  })

  test('what is above waits for it, is signed by the new set, and follows at once', () => {
    const { certifier, certificates, sign } = handingOver()
    certifier.collect(handover)
    certifier.collect(block(2))
    for (const i of [3, 4]) sign(i, block(2))
    for (const i of [0, 1]) sign(i, block(2))
    expect(certifier.certifiedHeight).toBe(0)
    for (const i of [0, 1, 3]) sign(i, handover)
    expect(certifier.certifiedHeight).toBe(0)
    sign(4, handover)
    expect(certificates.map(({ certificate }) => certificate.height)).toEqual([1, 2])
    expect(verifyCertificate(after, chainId, 0, certificates[1]!.certificate, nobleVerifier).ok).toBe(true)
  })

  test('the old set certifies nothing after it', () => {
    const { certifier, sign } = handingOver()
    certifier.collect(handover)
    for (const i of [0, 1, 3, 4]) sign(i, handover)
    certifier.collect(block(2))
    for (const i of [0, 1]) sign(i, block(2))
    expect(certifier.certifiedHeight).toBe(1)
  })

  test('who leaves signs it and no more; who comes signs from it on', () => {
    for (const [member, heights] of [
      [0, [1]],
      [4, [1, 2]],
    ] as const) {
      const signed: number[] = []
      const { certifier, sign } = handingOver(member)
      const executed = [handover, block(2)]
      for (const each of executed) certifier.collect(each)
      certifier.sign(executed)
      for (const height of heights)
        if (certifier.latestSignatureOf(fiveIds[member]!)!.height >= height) signed.push(height)
      expect(signed).toEqual(heights)
      for (const i of [0, 1, 3, 4].filter(i => i !== member)) sign(i, handover)
    }
  })

  test('a consenter whose blocks stay uncertified asks for a certificate: others may have no signatures left', () => {
    const { certifier, wanted } = handingOver(0)
    executeAndStore(certifier, block(1))
    certifier.tick(Milliseconds(500))
    expect(wanted).toEqual([])
    certifier.tick(Milliseconds(5_000))
    expect(wanted).toEqual([undefined])
  })

  test('who lacks it asks for it, and takes it with both certificates only', () => {
    const helper = handingOver()
    helper.certifier.collect(handover)
    for (const i of [0, 1, 3, 4]) helper.sign(i, handover)
    const { certificate, handover: taken } = helper.certificates[0]!
    const { certifier, wanted, certificates } = handingOver()
    certifier.collect(handover)
    certifier.tick(Milliseconds(5_000))
    expect(wanted).toEqual([1])
    certifier.adopt(certificate)
    certifier.adopt(certificate, { ...taken!, certificate })
    expect(certificates).toEqual([])
    expect(certifier.adopt(certificate, { ...taken!, certificate })).toMatchObject({
      error: { code: 'bad-certificate' },
    })
    expect(certifier.adopt(certificate, taken)).toEqual({ ok: true, value: undefined })
    expect(certifier.certifiedHeight).toBe(1)
  })
})
