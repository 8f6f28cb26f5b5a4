/** A small chain for tests: three full nodes that certify, an operator, whatever else is asked for. All keys follow from names. */
import { sha256 } from '@noble/hashes/sha2.js'
import { utf8ToBytes } from '@noble/hashes/utils.js'
import type { DeviceId } from '../../chain/brands.ts'
import { Milliseconds } from '../../chain/brands.ts'
import type { ChainLimits } from '../../chain/chain-parameters.ts'
import { defaultGenesisParameters, type GenesisDocument, genesisDocument } from '../../chain/genesis.ts'
import { deviceIdOf, type Signer } from '../../chain/keys.ts'
import type { Label } from '../../chain/transaction-bodies.ts'
import { nativeSignerFromSeed, nativeX25519PublicKey } from '../../client/native-crypto.ts'

export interface SampleIdentity {
  readonly name: string
  readonly id: DeviceId
  readonly signer: Signer
  readonly transportSeed: Uint8Array
  readonly transportKey: Uint8Array
}

export function seedOf(name: string, purpose: string): Uint8Array {
  return sha256(utf8ToBytes(`test/${purpose}/${name}`))
}

export function sampleIdentity(name: string): SampleIdentity {
  const signer = nativeSignerFromSeed('ed25519', seedOf(name, 'signing'))
  const transportSeed = seedOf(name, 'transport')
  return {
    name,
    id: deviceIdOf(signer.publicKey),
    signer,
    transportSeed,
    transportKey: nativeSignerFromSeed('ed25519', transportSeed).publicKey.bytes,
  }
}

/** Made once for each cast: to check a genesis is to check all of its keys, and many tests begin with the same one. */
const made = new Map<string, GenesisDocument>()

/** A genesis with these full nodes as consenters and an operator named `operator`. */
export function sampleGenesis(
  full: readonly SampleIdentity[],
  more: readonly { readonly identity: SampleIdentity; readonly label: Label }[] = [],
  limits: Partial<ChainLimits> = {},
): GenesisDocument {
  const others = more.map(({ identity, label }) => [identity.name, identity.id, label])
  const cast = JSON.stringify([full.map(({ name, id }) => [name, id]), others, limits])
  const genesis = made.get(cast) ?? makeGenesis(full, more, limits)
  made.set(cast, genesis)
  return genesis
}

function makeGenesis(
  full: readonly SampleIdentity[],
  more: readonly { readonly identity: SampleIdentity; readonly label: Label }[],
  limits: Partial<ChainLimits>,
): GenesisDocument {
  const operator = sampleIdentity('operator')
  const identities = [
    ...full.map(identity => ({ identity, label: 'full' as const })),
    ...more,
    { identity: operator, label: 'lightweight' as const },
  ]
  return genesisDocument({
    name: 'test',
    createdAt: Milliseconds(1_700_000_000_000),
    consenters: full.map(({ id, signer }) => ({ id, key: signer.publicKey })),
    quorumPolicy: 'majority',
    authorities: [{ id: operator.id, key: operator.signer.publicKey }],
    threshold: 1,
    parameters: { ...defaultGenesisParameters, limits: { ...defaultGenesisParameters.limits, ...limits } },
    identities: identities.map(({ identity, label }) => ({
      inceptionKey: identity.signer.publicKey,
      label,
      encryptionKey: { suite: 'x25519', bytes: nativeX25519PublicKey(seedOf(identity.name, 'encryption')) },
      transportKey: identity.transportKey,
      metadataHash: undefined,
    })),
  })
}
