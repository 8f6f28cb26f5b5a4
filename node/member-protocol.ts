/**
 * `/mote/member/1`: what the full nodes that keep one chain ask of each other, beside Raft messages and signatures. One
 * request, one answer; served to proven members of the configuration alone (docs/FORMATS.md, libp2p protocols).
 */
import type { DeviceId } from '../chain/brands.ts'
import { type Codec, encode, struct, uint, union } from '../chain/codec.ts'
import { assertNever, MoteError } from '../chain/result.ts'
import type { RequestHandler } from './ports.ts'
import { decodeAnswer, decodeRequest } from './wire.ts'

export type MemberRequest =
  /** The answer is one chunk of a snapshot that the asked node offered (snapshot-stream.ts). */
  | { readonly type: 'snapshot'; readonly lastIncludedIndex: number; readonly chunk: number }
  /** What the asked node remembers of the asker (state-witness.ts). */
  | { readonly type: 'witness' }
  /** The index that a linearizable read must have seen. Refused with `no-leader`. */
  | { readonly type: 'read' }

const requestCodec: Codec<MemberRequest> = union<MemberRequest>({
  snapshot: [1, struct({ lastIncludedIndex: uint(), chunk: uint() })],
  witness: [2, struct({})],
  read: [3, struct({})],
})

/** What a member answers. Methods throw the `MoteError` that travels to the asker. */
export interface MemberServices {
  mayAsk(id: DeviceId, type: MemberRequest['type']): boolean
  snapshotChunk(from: DeviceId, lastIncludedIndex: number, chunk: number): Uint8Array
  witness(from: DeviceId): Promise<Uint8Array>
  readIndex(): Promise<Uint8Array>
}

const readIndexCodec = struct<{ readonly index: number }>({ index: uint() })

export function encodeReadIndex(index: number): Uint8Array {
  return encode(readIndexCodec, { index })
}

/** Throws `malformed`. */
export function decodeReadIndex(body: Uint8Array): number {
  const decoded = decodeAnswer('member', readIndexCodec, body)
  if (!decoded.ok) throw new MoteError(decoded.error.code, decoded.error.detail)
  return decoded.value.index
}

export function encodeMemberRequest(request: MemberRequest): Uint8Array {
  return encode(requestCodec, request)
}

export function memberHandler(services: MemberServices): RequestHandler {
  return async ({ deviceId }, body) => {
    if (deviceId === undefined) throw new MoteError('hello-required', 'member: prove an identity first')
    const request = decodeRequest('member', requestCodec, body)
    if (!request.ok) throw new MoteError(request.error.code, request.error.detail)
    const { value } = request
    if (!services.mayAsk(deviceId, value.type))
      throw new MoteError('not-authorised', 'member: only those who keep this chain may ask')
    switch (value.type) {
      case 'snapshot':
        return services.snapshotChunk(deviceId, value.lastIncludedIndex, value.chunk)
      case 'witness':
        return services.witness(deviceId)
      case 'read':
        return services.readIndex()
      default:
        return assertNever(value)
    }
  }
}
