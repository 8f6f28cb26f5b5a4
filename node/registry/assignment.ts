/**
 * Which full node serves a lightweight node, and who takes over: rendezvous hashing over the live full nodes
 * (Qiu A3, A4). Pure.
 *
 * Each full node scores `hash(device, node)`; the highest score serves, the next ones are backups. So every
 * coordination node gives the same answer from the same live set without asking the others, the device can check it,
 * load spreads evenly, and when a node dies only the devices it served move: each to the backup it knew already.
 */
import { hexToBytes } from '@noble/hashes/utils.js'
import type { DeviceId } from '../../chain/brands.ts'
import { hashHex } from '../../chain/hashing.ts'

/** Backups that are named beside the serving full node. */
const backupCount = 2

/** The full nodes in the order in which they serve `device`. */
export function rendezvousOrder<N extends { readonly id: DeviceId }>(
  device: DeviceId,
  fullNodes: Iterable<N>,
): readonly N[] {
  const score = (node: N) => hashHex('mote/assignment/1', hexToBytes(device), hexToBytes(node.id))
  return [...fullNodes]
    .map(node => ({ node, score: score(node) }))
    .sort((a, b) => (a.score > b.score ? -1 : 1))
    .map(({ node }) => node)
}

/** Who serves `device` and who takes over; undefined if there is no live full node. */
export function assign<N extends { readonly id: DeviceId }>(
  device: DeviceId,
  live: Iterable<N>,
): { readonly fullNode: N; readonly backups: readonly N[] } | undefined {
  const [fullNode, ...others] = rendezvousOrder(device, live)
  return fullNode && { fullNode, backups: others.slice(0, backupCount) }
}
