/** The genesis document: what makes a chain id, what is refused, and the checkpoint that follows from it. */
import { ed25519 } from '@noble/curves/ed25519.js'
import { describe, expect, test } from 'vitest'
import { decode, encode } from '../../../chain/codec.ts'
import { builtSuites, type EnvelopeSuite } from '../../../chain/envelope-suites.ts'
import {
  chainIdOf,
  checkGenesis,
  checkpointFromGenesis,
  type GenesisDocument,
  genesisCodec,
  genesisDocument,
  genesisHeader,
  genesisLedger,
  genesisState,
} from '../../../chain/genesis.ts'
import { headerHash } from '../../../chain/header.ts'
import { deviceIdOf } from '../../../chain/keys.ts'
import {
  identityCodec,
  isKeyValidAt,
  limitBounds,
  parametersCodec,
  stateKeyOf,
} from '../../../chain/records.ts'
import { unwrap } from '../../../chain/result.ts'
import { rootOf } from '../../../chain/state-tree.ts'
import { coordinator, devices, fullNode, newcomer, operator, sampleLedgerGenesis } from './sample-ledger.ts'

const document = sampleLedgerGenesis()

function codeOf(wrong: Partial<GenesisDocument>): string {
  const checked = checkGenesis({ ...document, ...wrong })
  return checked.ok ? 'ok' : checked.error.code
}

describe('genesis', () => {
  test('genesis: every byte of the document makes the chain id', () => {
    expect(unwrap(decode(genesisCodec, encode(genesisCodec, document)))).toEqual(document)
    expect(chainIdOf(sampleLedgerGenesis())).toBe(chainIdOf(document))
    expect(chainIdOf({ ...document, name: 'other' })).not.toBe(chainIdOf(document))
    expect(chainIdOf({ ...document, threshold: 2 })).not.toBe(chainIdOf(document))
  })

  test('genesis: the order in which its makers list members does not matter', () => {
    const { version: _, ...parts } = document
    const reversed = {
      ...parts,
      identities: [...parts.identities].reverse(),
      authorities: [...parts.authorities].reverse(),
    }
    expect(chainIdOf(genesisDocument(reversed))).toBe(chainIdOf(document))
  })

  test('genesis: its identities are active from time 0, its parameters are a leaf', () => {
    const state = genesisState(document)
    const record = unwrap(decode(identityCodec, state.get(stateKeyOf.identity(devices[0]!.id))!))
    expect(record).toMatchObject({ status: 'active', trustLevel: 3, version: 1, admittedBy: undefined })
    expect(isKeyValidAt(record.keys[0]!, document.createdAt)).toBe(true)
    const parameters = unwrap(decode(parametersCodec, state.get(stateKeyOf.parameters())!))
    expect(parameters.authorities).toEqual(document.authorities)
    expect(state.size).toBe(document.identities.length + 1)
    expect([...state.keys()]).toEqual([...state.keys()].sort())
  })

  test('genesis: ledger, header and checkpoint agree', () => {
    const ledger = genesisLedger(document)
    expect(ledger.header).toEqual(genesisHeader(document))
    expect(ledger.headerHash).toBe(headerHash(ledger.header))
    expect(ledger.header).toMatchObject({ height: 0, term: 0, chainId: chainIdOf(document) })
    expect(rootOf(ledger.tree)).toBe(ledger.header.stateRoot)
    const checkpoint = checkpointFromGenesis(document)
    expect(checkpoint).toMatchObject({ headerHash: ledger.headerHash, chainId: chainIdOf(document) })
    expect(checkpoint.consenters.consenters.map(each => each.id)).toEqual([fullNode.id])
  })

  test('genesis: refuses members out of order or twice', () => {
    expect(codeOf({})).toBe('ok')
    expect(codeOf({ identities: [...document.identities].reverse() })).toBe('malformed')
    expect(codeOf({ identities: [document.identities[0]!, ...document.identities] })).toBe('malformed')
    expect(codeOf({ authorities: [...document.authorities].reverse() })).toBe('malformed')
    const [first] = document.consenters
    expect(codeOf({ consenters: [first!, first!] })).toBe('malformed')
  })

  test('genesis: refuses a consenter that is no full node among its identities', () => {
    const consenter = (who: typeof newcomer) => [{ id: who.id, key: who.signer.publicKey }]
    expect(codeOf({ consenters: consenter(coordinator) })).toBe('malformed')
    expect(codeOf({ consenters: consenter(newcomer) })).toBe('malformed')
  })

  test('genesis: refuses an authority that is not among its identities', () => {
    expect(codeOf({ authorities: [{ id: newcomer.id, key: newcomer.signer.publicKey }] })).toBe('malformed')
  })

  test('genesis: refuses a threshold that no set of authorities can meet, or none', () => {
    expect(codeOf({ threshold: 3 })).toBe('malformed')
    expect(codeOf({ threshold: 0 })).toBe('malformed')
    expect(codeOf({ threshold: 2 })).toBe('ok')
  })

  test('genesis: refuses limits over their bounds, and blocks without room for a transaction', () => {
    const withLimit = (name: keyof typeof limitBounds, value: number) =>
      codeOf({
        parameters: {
          ...document.parameters,
          limits: { ...document.parameters.limits, [name]: value },
        },
      })
    for (const name of Object.keys(limitBounds) as (keyof typeof limitBounds)[]) {
      expect(withLimit(name, limitBounds[name]), name).toBe('ok')
      expect(withLimit(name, limitBounds[name] + 1), name).toBe('malformed')
      expect(withLimit(name, 0), name).toBe('malformed')
    }
  })

  test.each(['inceptionKey', 'encryptionKey', 'transportKey'] as const)(
    'genesis: refuses an identity whose %s nobody can use',
    name => {
      const bytes = new Uint8Array(32)
      const flawed = {
        inceptionKey: { inceptionKey: { suite: 'ed25519', bytes } },
        encryptionKey: { encryptionKey: { suite: 'x25519', bytes } },
        transportKey: { transportKey: bytes },
      } as const
      const named = new Set([...document.consenters, ...document.authorities].map(({ id }) => id))
      const device = document.identities.find(each => !named.has(deviceIdOf(each.inceptionKey)))!
      const identities = document.identities
        .map(each => (each === device ? { ...device, ...flawed[name] } : each))
        .sort((a, b) => (deviceIdOf(a.inceptionKey) < deviceIdOf(b.inceptionKey) ? -1 : 1))
      expect(codeOf({ identities })).toBe('key-not-usable')
    },
  )

  test('genesis: refuses an identity that would sign and decrypt with one secret', () => {
    const { bytes } = document.identities[0]!.inceptionKey
    const encryptionKey = { suite: 'x25519', bytes: ed25519.utils.toMontgomery(bytes) } as const
    const identities = document.identities.map((each, i) => (i === 0 ? { ...each, encryptionKey } : each))
    expect(codeOf({ identities })).toBe('key-not-usable')
  })

  test('genesis: refuses a consenter or an authority under a key that nobody can use', () => {
    const key = { suite: 'p256', bytes: new Uint8Array(33) } as const
    expect(codeOf({ consenters: document.consenters.map(({ id }) => ({ id, key })) })).toBe('key-not-usable')
    expect(codeOf({ authorities: document.authorities.map(({ id }) => ({ id, key })) })).toBe(
      'key-not-usable',
    )
  })

  test('genesis: lists how messages may be sealed, each suite once and in order, and the chain has it so', () => {
    const withSuites = (...envelopeSuites: EnvelopeSuite[]) =>
      ({ parameters: { ...document.parameters, envelopeSuites } }) as const
    const [x25519, p256] = ['hpke-x25519-aes128gcm', 'hpke-p256-aes128gcm'] as const
    expect(codeOf(withSuites(x25519, p256))).toBe('ok')
    expect(codeOf(withSuites(p256, x25519))).toBe('malformed')
    expect(codeOf(withSuites(p256, p256))).toBe('malformed')
    const { parameters } = genesisLedger({ ...document, ...withSuites(p256) })
    expect(parameters.envelopeSuites).toEqual([p256])
    expect(document.parameters.envelopeSuites).toEqual(builtSuites)
    expect(chainIdOf({ ...document, ...withSuites(p256) })).not.toBe(chainIdOf(document))
  })

  test('genesis: refuses rules that this program does not have', () => {
    expect(codeOf({ parameters: { ...document.parameters, executionVersion: 2 } })).toBe('unknown-version')
  })

  test('genesis: refuses a document whose parts do not fit together', () => {
    expect(codeOf({ threshold: 3 })).toBe('malformed')
    expect(() => genesisLedger({ ...document, threshold: 3 })).toThrow('threshold')
    expect(operator.id).toMatch(/^[0-9a-f]{64}$/)
  })
})
