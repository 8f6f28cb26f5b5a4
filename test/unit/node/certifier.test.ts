import { expect, test } from 'vitest'
import { ChainId, DeviceId, Hash, Height, Milliseconds, Term } from '../../../chain/brands.ts'
import { type Certificate, certificateSigningBytes, verifyCertificate } from '../../../chain/certificate.ts'
import { consenterSet } from '../../../chain/consenters.ts'
import { deviceIdOf } from '../../../chain/keys.ts'
import { nobleVerifier, signerFromSeed } from '../../../chain/noble-crypto.ts'
import { Certifier, type Disagreement, type ExecutedBlock } from '../../../node/certifier.ts'
import type { SignatureMessage } from '../../../node/ports.ts'

const chainId = ChainId('c'.repeat(64))
const signers = [1, 2, 3].map(n => signerFromSeed('ed25519', new Uint8Array(32).fill(n)))
const ids = signers.map(signer => deviceIdOf(signer.publicKey))
const set = consenterSet(
  signers.map((signer, i) => ({ id: ids[i]!, key: signer.publicKey })),
  'majority',
)
const block = (height: number, hash = 'a'): ExecutedBlock => ({
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

function signatureOf(member: number, { height, term, headerHash }: ExecutedBlock): SignatureMessage {
  const signature = signers[member]!.sign(certificateSigningBytes(chainId, 0, height, headerHash))
  return { incarnation: 0, height, term, headerHash, signature }
}
function executeAndStore(certifier: Certifier, ...blocks: ExecutedBlock[]) {
  for (const each of blocks) certifier.executed(each)
  certifier.durable(blocks)
}

test('certifier: no signature leaves before the block and its record are durable', () => {
  const { certifier, sent } = setUp()
  certifier.executed(block(1))
  certifier.receive(ids[1]!, [signatureOf(1, block(1))])
  expect(sent).toEqual([])
  certifier.durable([block(1)])
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
  certifier.executed(block(1))
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
  certifier.executed(block(1))
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
  right.certifier.executed(block(1))
  expect(right.certificates).toEqual([])
  right.certifier.executed(block(2))
  expect(right.certifier.certifiedHeight).toBe(2)
  const wrong = setUp(undefined)
  wrong.certifier.adopt(sorted)
  wrong.certifier.executed(block(1, 'b'))
  wrong.certifier.executed(block(2, 'b'))
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
