/**
 * PUBREL, of which aedes 1.2 tells nobody. It looks the message up in its store before it answers PUBCOMP, and answers whatever comes of that.
 */
import type { Aedes, Client } from 'aedes'

/** The part of aedes' persistence, which its types do not show, that is asked when a QoS 2 message comes, and when it is released. */
interface IncomingStore {
  incomingGetPacket: (client: Client, packet: { cmd: string; messageId: number }) => Promise<unknown>
}

/** Calls `released` for each PUBREL, and has PUBCOMP wait for it. If it rejects, the connection is closed. @param aedes that listens */
export function hearReleases(
  aedes: Aedes,
  released: (clientId: string, packetIdentifier: number) => Promise<void>,
): void {
  const store = (aedes as unknown as { readonly persistence: IncomingStore }).persistence
  const find = store.incomingGetPacket.bind(store)
  store.incomingGetPacket = async (client, packet) => {
    try {
      if (packet.cmd === 'pubrel') await released(client.id, packet.messageId)
    } catch (error) {
      client.conn.destroy()
      throw error
    }
    return find(client, packet)
  }
}
