/**
 * A chain of thousands of certified headers, made in a second: what a full node serves to those who keep headers, without
 * the transactions. Its blocks change nothing but say that they did, with the size that full blocks have.
 */
import { Height, Milliseconds, type StateKey, Term } from '../../chain/brands.ts'
import { type Certificate, certificateCodec } from '../../chain/certificate.ts'
import { encode } from '../../chain/codec.ts'
import { changesHash, type Header, headerCodec, headerHash } from '../../chain/header.ts'
import { systemClock } from '../../client/clock.ts'
import { changesCodec, type LiveChain } from '../../node/ledger/live-chain.ts'
import type { Storage } from '../../node/ports.ts'
import { NodeService } from '../../node/service/node-service.ts'
import type { Submission } from '../../node/service/submission.ts'
import type { TestChain } from './test-chain.ts'

interface LongBlock {
  readonly header: Header
  /** Made when it is asked for, and then kept: most are not. */
  readonly certificate: () => Certificate | undefined
}

/** Sorted keys that no record has. */
export function strangeKeys(count: number): readonly StateKey[] {
  return Array.from({ length: count }, (_, i) => i.toString(16).padStart(64, '0') as StateKey)
}

/** The real service of a full node over such a chain. `grow` adds blocks as if they came at once. */
export class LongChain {
  readonly service: NodeService
  readonly #chain: TestChain
  readonly #blocks: LongBlock[]
  readonly #changes: readonly (readonly StateKey[])[] = []

  constructor(chain: TestChain) {
    this.#chain = chain
    this.#blocks = [{ header: chain.at(0).ledger.header, certificate: () => undefined }]
    this.#changes = [[]]
    this.service = this.#serve()
  }

  get height(): Height {
    return Height(this.#blocks.length - 1)
  }

  /** This many blocks more, each of which changes these keys. */
  grow(count: number, keys: readonly StateKey[]): void {
    const { consenters } = this.#chain.at(0).ledger.parameters
    const hash = changesHash(keys)
    for (let i = 0; i < count; i++) {
      const { header: parent } = this.#blocks.at(-1)!
      const height = Height(parent.height + 1)
      const time = Milliseconds(parent.time + 1)
      const header = {
        ...parent,
        index: (parent.index + 1) as Header['index'],
        height,
        time,
        term: Term(1),
        previousHash: headerHash(parent),
        changesHash: hash,
      }
      let made: Certificate | undefined
      const certificate = () => {
        made ??= this.#chain.certify(height, headerHash(header), undefined, consenters)
        return made
      }
      this.#blocks.push({ header, certificate })
      ;(this.#changes as (readonly StateKey[])[]).push(keys)
    }
    const certificate = this.#blocks.at(-1)?.certificate()
    if (certificate) this.service.certified(certificate)
  }

  #serve(): NodeService {
    const at = (height: number) => this.#blocks[height]
    const encodedChanges = new Map<readonly StateKey[], Uint8Array>()
    const changesAt = (height: number) => {
      const keys = this.#changes[height] ?? []
      const encoded = encodedChanges.get(keys) ?? encode(changesCodec, keys)
      encodedChanges.set(keys, encoded)
      return encoded
    }
    const stored = {
      header: async (height: number) => encode(headerCodec, at(height)!.header),
      changes: async (height: number) => changesAt(height),
      certificate: async (height: number) => {
        const certificate = at(height)?.certificate()
        return certificate && encode(certificateCodec, certificate)
      },
    }
    const { tree } = this.#chain.at(0).ledger
    const top = () => this.#blocks.at(-1)!
    const live = {
      at: (height: number) => ({ header: at(height)!.header, tree }),
      get certificate() {
        return top().certificate()
      },
      get certifiedHeight() {
        return top().header.height
      },
      answersOf: () => undefined,
    }
    return new NodeService({
      name: 'full-1',
      chain: live as unknown as LiveChain,
      storage: stored as unknown as Storage,
      clock: systemClock,
      submission: {} as Submission,
      certifier: {
        get heardHeight() {
          return top().header.height
        },
      },
      handovers: { provenAt: () => undefined },
      certificationLagMax: 64,
      status: {
        now: () => {
          throw new Error('nobody asks for it')
        },
        failure: undefined,
      },
      coordination: () => [],
    })
  }
}
