/**
 * Strangers: sockets that say nothing, and made-up names at a gateway. They come from loopback addresses of their own
 * (127.0.0.0/8), because limits are by address and who shares a stranger's shares its limits.
 */
import { connect, type Socket } from 'node:net'
import { MqttClient } from 'mqtt'
import type { ChainId, Milliseconds } from '../../../chain/brands.ts'
import { pause } from '../../../client/deadline.ts'
import { type IdentityKeys, makeKeys, signerOf } from '../../../client/key-directory.ts'
import { type Credentials, makeCredentials } from '../../../mqtt-gateway/device/mqtt-connection.ts'
import type { Address } from '../../layout.ts'
import type { Counts } from './counts.ts'

/** Sockets to nodes come from here. */
const strangersAddress = '127.0.0.66'
/** To each node: more than one address may have open that has proven nothing. */
const socketsPerNode = 300
/** At the gateway, of all addresses together: one after the other is let go, as the gateway does. */
const socketsAtGateway = 2_000
const refillEveryMs = 250
/** At most: who is let go at once would open nothing but sockets. */
const socketsPerRefill = 300

/** Silent sockets to these addresses; those that are closed are opened again. */
export async function holdSilentSockets(
  targets: readonly Address[],
  counts: Counts,
  over: AbortSignal,
): Promise<void> {
  const open = new Set<Socket>()
  const openAt = (target: Address) => {
    const socket = connect({ ...target, localAddress: strangersAddress })
    open.add(socket)
    socket.on('error', () => {})
    socket.once('connect', () => counts.add('sockets'))
    socket.once('close', () => open.delete(socket))
  }
  while (!over.aborted) {
    const missing = socketsPerNode * targets.length - open.size
    for (let i = 0; i < Math.min(missing, socketsPerRefill); i++)
      openAt(targets[i % targets.length] as Address)
    await pause(refillEveryMs, over)
  }
  for (const socket of open) socket.destroy()
}

/** What a device with these keys would say to connect. */
export function credentialsOf(keys: IdentityKeys, chainId: ChainId): Credentials {
  const now = () => Date.now() as Milliseconds
  return makeCredentials({ chainId, device: keys.id, signer: signerOf(keys), now })
}

/** Silent sockets from a hundred addresses and devices that nobody knows, again and again. */
export async function crowdGateway(
  { gateway, chainId }: { readonly gateway: Address; readonly chainId: ChainId },
  counts: Counts,
  over: AbortSignal,
): Promise<void> {
  const sockets: Socket[] = []
  const open = (localAddress: string): Socket => {
    const socket = connect({ ...gateway, localAddress }).on('error', () => {})
    socket.once('connect', () => counts.add('sockets'))
    if (sockets.push(socket) > socketsAtGateway) sockets.shift()?.destroy()
    return socket.resume()
  }
  for (let i = 0; !over.aborted; i++) {
    open(`127.0.${1 + (i % 100)}.2`)
    const { clientId, username, password } = credentialsOf(makeKeys(`stranger-${i}`), chainId)
    const options = { clientId, username, password, protocolVersion: 4, reconnectPeriod: 0 } as const
    new MqttClient(() => open(`127.0.0.${2 + (i % 4)}`), options).on('error', () => {})
    counts.add('made-up names')
    if (i % 10 === 0) await pause(10, over)
  }
  for (const socket of sockets) socket.destroy()
}
