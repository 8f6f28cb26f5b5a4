/**
 * Hello: the first exchange on every libp2p connection, both ways. Each side shows a
 * certified proof of its own identity record; the record names the transport key, and the transport has proven
 * that the peer holds it. So a node whose own state is old can still judge a peer, and a stolen proof is worth
 * nothing on another key.
 *
 * Exchange on one stream `/mote/hello/1`, opened by the side that dialled:
 *   dialler → Hello · listener → HelloReply (its verdict, and its own Hello) · dialler → HelloVerdict.
 *
 * The newest certified knowledge decides: what this node holds itself at the proof's height or later wins over
 * the proof, so a revoked device cannot come back with its last good proof. A proof has no maximum age: after a
 * long power cut every proof is old, and the consenters must still find each other.
 *
 * A voter of the Raft configuration in force is let in even when it is revoked: it may have to commit the configuration that
 * leaves it out. It gets the protocols of those who keep the chain, and no other (`PeerLink.confirmedFor`).
 *
 * A node without state of its own may know nothing newer: it has just started, or has skipped headers. It asks for the
 * peer's record at a fresh head then (node/light/identities.ts). Until that has come the peer is not confirmed: it is asked
 * for headers and proofs, which need no trust, and nothing that it asks or says counts.
 */
import type { ChainId, DeviceId, Height } from '../../chain/brands.ts'
import {
  bytes,
  type Codec,
  constant,
  decode,
  digest,
  encode,
  equalBytes,
  list,
  optional,
  struct,
  union,
} from '../../chain/codec.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import {
  type CertifiedHeader,
  certifiedHeaderCodec,
  stateAnswerCodec,
  type TrustedHead,
  throughHandovers,
  verifyStateAnswer,
} from '../../chain/light-client.ts'
import { type IdentityRecord, identityCodec, stateKeyOf } from '../../chain/records.ts'
import { MoteError, ok, type Result, refuse } from '../../chain/result.ts'
import type { Conversation } from './streams.ts'
import { refusalFields, refusalFrame } from './wire.ts'

export type HelloProof =
  /** The identity of the genesis document; for a chain that has certified nothing yet. */
  | { readonly type: 'genesis' }
  /**
   * An encoded `StateAnswer` for the identity's leaf, and the latest changes of the consenters, for a peer that trusts
   * those of before.
   */
  | {
      readonly type: 'certified'
      readonly answer: Uint8Array
      readonly handovers: readonly CertifiedHeader[]
    }
  /** Not admitted yet: asks for join, head and own status only. */
  | { readonly type: 'none' }

export interface Hello {
  readonly version: 1
  readonly chainId: ChainId
  readonly deviceId: DeviceId
  readonly proof: HelloProof
}

/** Undefined: the peer is admitted. */
export type HelloVerdict = { readonly code: string; readonly detail: string } | undefined

export interface HelloReply {
  readonly verdict: HelloVerdict
  readonly hello: Hello
}

/** Changes of the consenters in a hello, at most; a peer that has missed more of them needs a newer checkpoint. */
export const maxHelloHandovers = 128
/** Leaves room in the frame for the rest of a hello. */
const maxAnswerBytes = 64 * 1024

export const helloCodec: Codec<Hello> = struct<Hello>({
  version: constant(1),
  chainId: digest<ChainId>(),
  deviceId: digest<DeviceId>(),
  proof: union<HelloProof>({
    genesis: [1, struct({})],
    certified: [
      2,
      struct({
        answer: bytes(1, maxAnswerBytes),
        handovers: list(certifiedHeaderCodec, maxHelloHandovers),
      }),
    ],
    none: [3, struct({})],
  }),
})
const verdictCodec: Codec<HelloVerdict> = optional(struct(refusalFields))
export const helloVerdictCodec: Codec<{ verdict: HelloVerdict }> = struct({ verdict: verdictCodec })
export const helloReplyCodec: Codec<HelloReply> = struct<HelloReply>({
  verdict: verdictCodec,
  hello: helloCodec,
})

/** What this node knows of an identity from certified blocks of its own. */
export type KnownIdentity = {
  /** Height as of which it knows. */
  readonly height: Height
  /** `changed`: a block at `height` wrote the record, and this node has not seen the new value. */
  readonly record: IdentityRecord | undefined | 'changed'
}

/** What judging a hello needs to know. Full nodes answer from their state, others from what their header follower saw. */
export interface IdentityProvider {
  readonly chainId: ChainId
  readonly deviceId: DeviceId
  readonly verifier: SignatureVerifier
  /** The best proof of this node's own record. */
  ownProof(): HelloProof
  trusted(): TrustedHead
  /** Record in the genesis document, at height 0. */
  genesisIdentity(id: DeviceId): IdentityRecord | undefined
  known(id: DeviceId): KnownIdentity | undefined
  /** Whether what stood at this height is known to stand now: no later change can have escaped this node. */
  isCurrent(id: DeviceId, height: Height): boolean
  /** Whether this peer votes here: one that does is let in although it is suspended or revoked, until it is let go. */
  isVoter?(id: DeviceId): boolean
  /** A peer has proven that this header is certified, while it proved its record. */
  verified?(head: TrustedHead): void
}

/** A peer whose hello passed. */
export interface ProvenPeer {
  readonly id: DeviceId
  /** Ed25519, 32 bytes. */
  readonly transportKey: Uint8Array
  /** The record by which it was admitted, and how new that was. */
  readonly record: IdentityRecord
  readonly height: Height
  /** The record stands at a fresh head. Until it is known to, the peer is good for headers and proofs only. */
  readonly confirmed: boolean
}

export function ownHello(identities: IdentityProvider): Hello {
  return {
    version: 1,
    chainId: identities.chainId,
    deviceId: identities.deviceId,
    proof: identities.ownProof(),
  }
}

/**
 * The peer behind a hello that came over a connection with this transport key. Refuses with `wrong-chain`,
 * `hello-required` (no proof was shown), `hello-refused`, `bad-proof` or `bad-certificate`.
 */
export function judgeHello(
  identities: IdentityProvider,
  hello: Hello,
  transportKey: Uint8Array | undefined,
): Result<ProvenPeer> {
  if (hello.chainId !== identities.chainId)
    return refuse('wrong-chain', `hello: expected chain ${identities.chainId}, got ${hello.chainId}`)
  if (hello.proof.type === 'none') return refuse('hello-required', 'hello: no proof of an identity was shown')
  const shown = shownRecord(identities, hello.deviceId, hello.proof)
  if (!shown.ok) return shown
  return judge(identities, hello.deviceId, transportKey, shown.value)
}

/** Judges a peer again that was admitted before, by what this node knows now. */
export function judgeAgain(identities: IdentityProvider, peer: ProvenPeer): Result<ProvenPeer> {
  return judge(identities, peer.id, peer.transportKey, peer)
}

interface ShownRecord {
  readonly height: Height
  readonly record: IdentityRecord | undefined
}

function shownRecord(
  identities: IdentityProvider,
  id: DeviceId,
  proof: Exclude<HelloProof, { type: 'none' }>,
): Result<ShownRecord> {
  if (proof.type === 'genesis') return ok({ height: 0 as Height, record: identities.genesisIdentity(id) })
  const answer = decode(stateAnswerCodec, proof.answer)
  if (!answer.ok) return answer
  const { height: claimed } = answer.value
  const known = identities.known(id)
  // This node knows a newer record: the proof could add nothing, and earlier consenters may have signed it.
  if (known && known.height > claimed && known.record !== 'changed') return ok(known as ShownRecord)
  const trusted = throughHandovers(identities.trusted(), proof.handovers, claimed, identities.verifier)
  if (!trusted.ok) return trusted
  identities.verified?.(trusted.value)
  const key = stateKeyOf.identity(id)
  const verified = verifyStateAnswer(trusted.value, key, answer.value, identities.verifier)
  if (!verified.ok) return verified
  const { height, value } = verified.value
  if (value === undefined) return ok({ height, record: undefined })
  const record = decode(identityCodec, value)
  return record.ok ? ok({ height, record: record.value }) : record
}

function judge(
  identities: IdentityProvider,
  id: DeviceId,
  transportKey: Uint8Array | undefined,
  shown: ShownRecord,
): Result<ProvenPeer> {
  const known = identities.known(id)
  const newest = known !== undefined && known.height > shown.height ? known : shown
  if (newest.record === 'changed')
    return refuse('hello-refused', `hello: the record changed at height ${newest.height}; show a newer proof`)
  const { record, height } = newest
  if (!record) return refuse('hello-refused', `hello: ${id} is not on the chain at height ${height}`)
  if (record.id !== id) return refuse('hello-refused', `hello: the record is of ${record.id}`)
  if (record.status !== 'active' && !identities.isVoter?.(id))
    return refuse('hello-refused', `hello: ${id} is ${record.status} at height ${height}`)
  if (!record.transportKey || !transportKey || !equalBytes(record.transportKey, transportKey))
    return refuse('hello-refused', `hello: the record of ${id} does not name the key of this connection`)
  return ok({ id, transportKey, record, height, confirmed: identities.isCurrent(id, height) })
}

/* ---------------------------------------------------------------- the exchange */

/* The three frames of hello on a stream (hello.ts says what they mean). */

export interface HelloOutcome {
  /** Who the peer is. */
  readonly judged: Result<ProvenPeer>
  /** The peer took our proof. */
  readonly accepted: boolean
}

/** What an exchange needs to know of its connection. */
interface Connection {
  readonly transportKey: Uint8Array | undefined
}

/**
 * The side that dialled. A peer that refuses us although we showed a proof rejects the whole exchange with its
 * refusal; a newcomer without proof may stay. Throws `malformed`, `too-large`, `timeout`, `unreachable`.
 */
export async function sayHello(
  conversation: Conversation,
  options: { identities: IdentityProvider; link: Connection; expected: DeviceId },
): Promise<HelloOutcome> {
  const { identities, link, expected } = options
  const own = ownHello(identities)
  conversation.send(encode(helloCodec, own))
  const reply = await next(conversation, helloReplyCodec)
  const judged =
    reply.hello.deviceId === expected
      ? judgeHello(identities, reply.hello, link.transportKey)
      : refuse('hello-refused', `hello: expected ${expected}, got ${reply.hello.deviceId}`)
  conversation.send(encode(helloVerdictCodec, { verdict: verdictOn(judged) }))
  await conversation.finish()
  if (reply.verdict && own.proof.type !== 'none')
    throw new MoteError('hello-refused', `the peer said ${reply.verdict.code}: ${reply.verdict.detail}`)
  return { judged, accepted: reply.verdict === undefined }
}

/** The side that listened. `onProven` runs before the reply leaves: what the peer sends next finds it known. */
export async function answerHello(
  conversation: Conversation,
  options: { identities: IdentityProvider; link: Connection; onProven: (peer: ProvenPeer) => void },
): Promise<HelloOutcome> {
  const { identities, link, onProven } = options
  const hello = await next(conversation, helloCodec)
  const judged = judgeHello(identities, hello, link.transportKey)
  if (judged.ok) onProven(judged.value)
  conversation.send(encode(helloReplyCodec, { verdict: verdictOn(judged), hello: ownHello(identities) }))
  const { verdict } = await next(conversation, helloVerdictCodec)
  await conversation.finish()
  return { judged, accepted: judged.ok && verdict === undefined }
}

function verdictOn(judged: Result<ProvenPeer>): HelloVerdict {
  return judged.ok ? undefined : refusalFrame(judged.error)
}

async function next<T>(conversation: Conversation, codec: Codec<T>): Promise<T> {
  const decoded = decode(codec, await conversation.receive())
  if (decoded.ok) return decoded.value
  const failure = new MoteError(decoded.error.code, decoded.error.detail)
  conversation.fail(failure)
  throw failure
}
