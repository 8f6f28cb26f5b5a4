/** What gateways keep on a simulated disk: messages by key, and small files that are replaced as a whole. */
import { utf8ToBytes } from '@noble/hashes/utils.js'
import type { CheckpointStore } from '../../client/checkpoint-file.ts'
import type { MessageDatabase } from '../../client/message-store.ts'
import type { ByteStore } from '../../node/storage/byte-store.ts'

export function messageDatabase(store: ByteStore): MessageDatabase {
  return {
    get: key => store.get(utf8ToBytes(key)),
    all: async prefix => {
      const found: (readonly [string, Uint8Array])[] = []
      for await (const [key, value] of store.range({
        from: utf8ToBytes(prefix),
        to: utf8ToBytes(`${prefix}\u{ff}`),
      }))
        found.push([Buffer.from(key).toString('utf8'), value])
      return found
    },
    write: changes =>
      store.write(
        changes.map(({ key, value }) => ({ key: utf8ToBytes(key), value: value ?? null })),
        true,
      ),
    close: () => store.close(),
  }
}

/** One file; what is saved is there when it resolves. */
export function fileOn(store: ByteStore): CheckpointStore {
  const key = utf8ToBytes('file')
  return { load: () => store.get(key), save: value => store.write([{ key, value }], true) }
}
