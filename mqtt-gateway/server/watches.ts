/**
 * What devices watch: as soon as a block is certified that changes a record, each device that watches it is sent the record with its
 * proof, or word that it has changed where no full node gives one now (docs/FORMATS.md, "MQTT topics").
 *
 * A watch belongs to a connection and ends with it; a later one of the same connection takes its place. Bounded: records in a
 * watch, and connections of a device (sessions.ts). A record is read once for all who watch it.
 */
import type { DeviceId, StateKey } from '../../chain/brands.ts'
import { stateKeyOf } from '../../chain/records.ts'
import { MoteError } from '../../chain/result.ts'
import { encodeChange, type WatchedSubject } from '../protocol/question.ts'
import { topics } from '../protocol/topics.ts'
import type { TrustAdvance, TrustView } from '../protocol/trust.ts'
import type { Broker, BrokerSession } from './broker.ts'
import type { Session } from './sessions.ts'

interface Watching {
  readonly device: DeviceId
  readonly subjects: readonly WatchedSubject[]
}

export class Watches {
  readonly #trust: Pick<TrustView, 'answer'>
  readonly #broker: Pick<Broker, 'publish'>
  readonly #bySession = new Map<BrokerSession, Watching>()

  constructor(trust: Pick<TrustView, 'answer'>, broker: Pick<Broker, 'publish'>) {
    this.#trust = trust
    this.#broker = broker
  }

  /** Replaces what the connection watches; nothing ends it. */
  set(session: Session, subjects: readonly WatchedSubject[]): void {
    if (subjects.length > 0) this.#bySession.set(session, { device: session.device, subjects })
    else this.#bySession.delete(session)
  }

  close(session: BrokerSession): void {
    this.#bySession.delete(session)
  }

  /** Resolves when everybody has been sent what the step of the chain changed. */
  async tellOf({ changed }: TrustAdvance): Promise<void> {
    const watchers = new Map<
      StateKey,
      { readonly subject: WatchedSubject; readonly devices: Set<DeviceId> }
    >()
    for (const { device, subjects } of this.#bySession.values())
      for (const subject of subjects) {
        const key = stateKeyOfSubject(subject)
        if (changed !== 'unknown' && !changed.has(key)) continue
        const entry = watchers.get(key) ?? { subject, devices: new Set<DeviceId>() }
        watchers.set(key, entry)
        entry.devices.add(device)
      }
    await Promise.all([...watchers.values()].map(({ subject, devices }) => this.#send(subject, devices)))
  }

  async #send(subject: WatchedSubject, devices: ReadonlySet<DeviceId>): Promise<void> {
    const proof = await this.#trust.answer(subject).catch((error: unknown) => {
      if (error instanceof MoteError) return undefined
      throw error
    })
    const payload = encodeChange(subject, proof)
    await Promise.all(
      [...devices].map(device =>
        this.#broker.publish({ topicName: topics.change(device), payload, retain: false }),
      ),
    )
  }
}

function stateKeyOfSubject(subject: WatchedSubject): StateKey {
  return subject.type === 'device' ? stateKeyOf.identity(subject.id) : stateKeyOf.group(subject.id)
}
