/** A ledger with two operators, a full node, a coordination node and devices, driven block by block. */

import type { ReceiptCode } from '../../../chain/block.ts'
import { DeviceId, type GroupId, LogIndex, Milliseconds, type StateKey, Term } from '../../../chain/brands.ts'
import { type Codec, decodeOwn, encode } from '../../../chain/codec.ts'
import { type ConsenterSet, signersHash } from '../../../chain/consenters.ts'
import { type ExecutedBlock, executeBlock } from '../../../chain/execution.ts'
import {
  defaultGenesisParameters,
  type GenesisDocument,
  type GenesisParameters,
  genesisDocument,
  genesisLedger,
} from '../../../chain/genesis.ts'
import { deviceIdOf, keyIdOf, type PublicKey, type Signer, type SigningSuite } from '../../../chain/keys.ts'
import { type Ledger, type LedgerParts, restoreLedger } from '../../../chain/ledger.ts'
import {
  type GroupRecord,
  groupCodec,
  type IdentityRecord,
  identityCodec,
  membersCodec,
  membershipsCodec,
  stateKeyOf,
} from '../../../chain/records.ts'
import { assert, unwrap } from '../../../chain/result.ts'
import { entries, get, update } from '../../../chain/state-tree.ts'
import {
  type GrantBody,
  grantIdOf,
  grantTokenSigningBytes,
  keyPossessionSigningBytes,
  type Label,
  type NewKey,
  type RegisterBody,
  signTransaction,
  type TransactionBody,
  type UnsignedTransaction,
} from '../../../chain/transaction.ts'
import { nativeSignerFromSeed, nativeVerifier } from '../../../client/native-crypto.ts'

export const startedAt = 1_790_000_000_000
export const second = 1000

export interface Actor {
  readonly signer: Signer
  readonly id: DeviceId
}

export function actor(seed: number, suite: SigningSuite = 'ed25519'): Actor {
  const signer = nativeSignerFromSeed(suite, new Uint8Array(32).fill(seed))
  return { signer, id: deviceIdOf(signer.publicKey) }
}

export const operator = actor(1)
export const secondOperator = actor(2)
export const fullNode = actor(3)
export const coordinator = actor(4, 'p256')
/** Of the genesis, label lightweight. */
export const devices: readonly Actor[] = [actor(10), actor(11, 'p256'), actor(12), actor(13)]
/** Not on the chain. */
export const newcomer = actor(20)
/** Signs admissions; on the chain only as the token key of a grant. */
export const token = actor(30)

export function encryptionKey(fill: number, notAfter?: number): NewKey {
  return {
    purpose: 'encrypt',
    key: { suite: 'x25519', bytes: new Uint8Array(32).fill(fill) },
    notAfter: notAfter === undefined ? undefined : Milliseconds(notAfter),
  }
}

export interface SampleChoices {
  /** Operators, the two of above unless said otherwise. */
  readonly authorities?: readonly Actor[]
  readonly threshold?: number
  /** Full nodes of the genesis besides the one of above, which is the consenter alone. */
  readonly fullNodes?: readonly Actor[]
  readonly parameters?: Partial<Omit<GenesisParameters, 'limits'>>
  readonly limits?: Partial<GenesisParameters['limits']>
}

export function sampleLedgerGenesis(choices: SampleChoices = {}): GenesisDocument {
  const identity = (who: Actor, label: Label) => ({
    inceptionKey: who.signer.publicKey,
    label,
    encryptionKey: undefined,
    transportKey: undefined,
    metadataHash: undefined,
  })
  const { limits } = defaultGenesisParameters
  const { authorities = [operator, secondOperator], fullNodes = [] } = choices
  return genesisDocument({
    name: 'sample',
    createdAt: Milliseconds(startedAt),
    consenters: [{ id: fullNode.id, key: fullNode.signer.publicKey }],
    quorumPolicy: 'majority',
    authorities: authorities.map(({ id, signer }) => ({ id, key: signer.publicKey })),
    threshold: choices.threshold ?? 1,
    parameters: {
      ...defaultGenesisParameters,
      ...choices.parameters,
      limits: { ...limits, ...choices.limits },
    },
    identities: [
      ...authorities.map(authority => identity(authority, 'lightweight')),
      ...[fullNode, ...fullNodes].map(node => identity(node, 'full')),
      identity(coordinator, 'coordination'),
      ...devices.map(device => identity(device, 'lightweight')),
    ],
  })
}

type Wrong = Partial<Omit<UnsignedTransaction, 'body' | 'version'>> & {
  /** Signs with this key while the envelope names another. */
  readonly signedBy?: Signer
}

export class SampleLedger {
  ledger: Ledger
  time = startedAt
  #nonce = 0

  constructor(choices: SampleChoices = {}) {
    this.ledger = genesisLedger(sampleLedgerGenesis(choices))
  }

  get chainId() {
    return this.ledger.header.chainId
  }

  sign(who: Actor, body: TransactionBody, wrong: Wrong = {}): Uint8Array {
    const { signedBy, ...fields } = wrong
    const nonce = new Uint8Array(16)
    new DataView(nonce.buffer).setUint32(0, ++this.#nonce)
    return signTransaction(
      {
        version: 1,
        chainId: this.chainId,
        body,
        signer: { deviceId: who.id, keyId: keyIdOf(who.signer.publicKey) },
        nonce,
        expiry: Milliseconds(this.time + 60 * second),
        ...fields,
      },
      signedBy ?? who.signer,
    )
  }

  /** One block, a second after the last unless `time` was moved. */
  execute(...transactions: readonly Uint8Array[]): ExecutedBlock {
    this.time += second
    const block = executeBlock(this.ledger, {
      proposal: { version: 1, type: 'block', time: Milliseconds(this.time), transactions },
      term: Term(1),
      index: LogIndex(this.ledger.header.index + 2),
      verify: nativeVerifier,
    })
    this.ledger = block.ledger
    return block
  }

  /** A block whose proposal asks for a handover to the set. */
  handOver(target: ConsenterSet): ExecutedBlock {
    this.time += second
    const time = Milliseconds(this.time)
    const block = executeBlock(this.ledger, {
      proposal: { version: 1, type: 'handover', time, signersHash: signersHash(target) },
      term: Term(1),
      index: LogIndex(this.ledger.header.index + 2),
      verify: nativeVerifier,
    })
    this.ledger = block.ledger
    return block
  }

  /** Executes one transaction in a block of its own; its receipt's code. */
  run(who: Actor, body: TransactionBody, wrong?: Wrong): ReceiptCode {
    const [receipt] = this.execute(this.sign(who, body, wrong)).receipts
    assert(receipt, 'one transaction has one receipt')
    return receipt.code
  }

  identity(id: DeviceId): IdentityRecord {
    const value = get(this.ledger.tree, stateKeyOf.identity(id))
    assert(value, `there is no identity ${id}`)
    return decodeOwn(identityCodec, value)
  }

  group(id: GroupId): GroupRecord {
    const value = get(this.ledger.tree, stateKeyOf.group(id))
    assert(value, `there is no group ${id}`)
    return decodeOwn(groupCodec, value)
  }

  members(id: GroupId): readonly DeviceId[] {
    const value = get(this.ledger.tree, stateKeyOf.members(id))
    return value ? decodeOwn(membersCodec, value) : []
  }

  memberships(id: DeviceId): readonly GroupId[] {
    const value = get(this.ledger.tree, stateKeyOf.memberships(id))
    return value ? decodeOwn(membershipsCodec, value) : []
  }

  grantBody(parts: Partial<GrantBody> = {}): GrantBody {
    return {
      type: 'identity.grant',
      tokenKey: token.signer.publicKey,
      quota: 1,
      expiry: Milliseconds(this.time + 3600 * second),
      highestLabel: 'lightweight',
      ...parts,
    }
  }

  registerBody(who: Actor, parts: Partial<RegisterBody> = {}, by: Actor = token): RegisterBody {
    return {
      type: 'identity.register',
      inceptionKey: who.signer.publicKey,
      label: 'lightweight',
      keys: [encryptionKey(7)],
      transportKey: undefined,
      profile: { connectionLifetime: 'days', cores: 1, memoryMebibytes: 64, storageMebibytes: 128 },
      metadataHash: undefined,
      grant: grantIdOf(by.signer.publicKey),
      tokenSignature: by.signer.sign(grantTokenSigningBytes(this.chainId, who.id)),
      challenge: {
        coordinator: coordinator.id,
        nonce: new Uint8Array(16).fill(9),
        issuedAt: Milliseconds(this.time),
      },
      ...parts,
    }
  }

  newSigningKey(owner: Actor, key: Actor, notAfter?: number): NewKey {
    const publicKey: PublicKey = key.signer.publicKey
    return {
      purpose: 'sign',
      key: publicKey,
      notAfter: notAfter === undefined ? undefined : Milliseconds(notAfter),
      possession: key.signer.sign(keyPossessionSigningBytes(this.chainId, owner.id, publicKey)),
    }
  }

  revoke(subject: Actor): ReceiptCode {
    return this.run(operator, {
      type: 'identity.revoke',
      subject: subject.id,
      reason: 'test',
    })
  }

  suspend(subject: Actor): ReceiptCode {
    return this.run(operator, {
      type: 'identity.suspend',
      subject: subject.id,
      reason: 'test',
    })
  }
}

export function sorted(...actors: readonly Actor[]): DeviceId[] {
  return actors.map(({ id }) => DeviceId(id)).sort()
}

/** The same chain with one leaf replaced: for states that no transaction of today leads to. */
export function withLeaf<T>(chain: SampleLedger, key: StateKey, codec: Codec<T>, value: T): SampleLedger {
  const tree = update(chain.ledger.tree, new Map([[key, encode(codec, value)]]))
  chain.ledger = { ...chain.ledger, tree }
  return chain
}

/** What a node stores of a ledger, and would restore it from. */
export function partsOf(ledger: Ledger): LedgerParts {
  const { size, peaks } = ledger.history
  return {
    header: ledger.header,
    leaves: entries(ledger.tree),
    replay: ledger.replay.stored(),
    historyFrontier: { size, peaks },
  }
}

/** The same ledger, as it comes back after a restart. */
export function restoredOf(ledger: Ledger): Ledger {
  return unwrap(restoreLedger(partsOf(ledger)))
}
