/**
 * Changes of the consenters as a full node keeps them: learns of them from execution, proves them with what the certifier
 * has collected, stores the proof, and asks other members for the one that it missed (certifier.ts, `wanted`).
 */
import type { DeviceId, Height } from '../chain/brands.ts'
import type { Certificate } from '../chain/certificate.ts'
import { decode, encode } from '../chain/codec.ts'
import { type CertifiedHeader, certifiedHeaderCodec, type Handover } from '../chain/light-client.ts'
import { stateKeyOf } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import type { Certifier } from './certifier.ts'
import type { Handovers } from './handovers.ts'
import type { LiveChain } from './live-chain.ts'
import type { Network, Storage } from './ports.ts'
import type { Execution } from './replicated-chain.ts'
import { protocols, queryCodec } from './wire.ts'

export interface HandoverDeskParts {
  readonly handovers: Handovers
  readonly chain: LiveChain
  readonly storage: Pick<Storage, 'putHandover'>
  readonly network: Pick<Network, 'request' | 'peers'>
  readonly certifier: () => Certifier
  /** Everybody else who keeps this chain. */
  readonly others: () => ReadonlySet<string>
  readonly log: (detail: object, message: string) => void
}

const askTimeoutMs = 2_000

export class HandoverDesk {
  readonly #parts: HandoverDeskParts
  #asking = false
  /** Members are asked in turn. */
  #turn = 0

  constructor(parts: HandoverDeskParts) {
    this.#parts = parts
  }

  /** The latest changes of the consenters that are proven here, ascending. */
  newest(count: number): readonly CertifiedHeader[] {
    return this.#parts.handovers.newest(count)
  }

  executed({ block }: Execution): void {
    if (!block.handover) return
    this.#parts.handovers.executed(block.height, block.handover)
    this.#parts.log({ height: block.height, consenters: idsOf(block.handover) }, 'handover executed')
  }

  /** Stores the proof ahead of the certificate. */
  certified(certificate: Certificate, handover: Handover | undefined): void {
    const { chain, handovers, storage, log } = this.#parts
    const ledger = chain.at(certificate.height)
    if (!handover || !ledger) return
    // A handover block writes the parameters and nothing else.
    const changes = [stateKeyOf.parameters()]
    const row = handovers.prove({ header: ledger.header, certificate, handover, changes })
    if (row)
      storage.putHandover(row).catch(() => {
        // The replica meets the same disk with its next write, and stops there.
      })
    log({ height: certificate.height, consenters: idsOf(handover.consenters) }, 'handover certified')
  }

  /** Asks one connected member for the handover header, or for its newest one; the certifier asks again while it lacks it. */
  wanted(height: Height | undefined): void {
    const { network, others } = this.#parts
    const connected = network.peers().filter(({ id, state }) => state === 'connected' && others().has(id))
    const peer = connected[this.#turn++ % Math.max(connected.length, 1)]
    if (!peer || this.#asking) return
    this.#asking = true
    this.#fetch(peer.id, height)
      .catch(error =>
        this.#parts.log({ peer: peer.id, height, error: String(error) }, 'certificate not fetched'),
      )
      .finally(() => {
        this.#asking = false
      })
  }

  async #fetch(peer: DeviceId, height: Height | undefined): Promise<void> {
    const query = encode(queryCodec, height === undefined ? { type: 'head' } : { type: 'header', height })
    const bytes = await this.#parts.network.request(peer, 'query', query, askTimeoutMs)
    const decoded = decode<CertifiedHeader>(certifiedHeaderCodec, bytes, protocols.query.maxFrameBytes)
    const { certificate, handover } = decoded.ok ? decoded.value : refused(decoded.error)
    const adopted = certificate && this.#parts.certifier().adopt(certificate, handover)
    if (adopted && !adopted.ok) refused(adopted.error)
  }
}

function refused({ code, detail }: Pick<MoteError, 'code' | 'detail'>): never {
  throw new MoteError(code, detail)
}

function idsOf({ consenters }: Handover['consenters']): DeviceId[] {
  return consenters.map(({ id }) => id)
}
