/**
 * A hostile consenter, which comes and goes: it plays one whose process does not run, by its keys. While it is there it takes
 * over again and again (raft-lies.ts), answers appends beyond the leader's log, sends signatures that are none, claims
 * that clocks are wrong, forwards nonsense, and refuses whatever is forwarded to it.
 *
 * It signs nothing that is valid: by that, the consenter that it plays would rightly be taken for one that lost its state
 * when it comes back.
 */
import { randomBytes } from 'node:crypto'
import { type Hash, Height, type Milliseconds, Term } from '../../../chain/brands.ts'
import { Deadline, pause } from '../../../client/deadline.ts'
import { idOfSigned } from '../../../client/submission.ts'
import type { PeerAddress, PeerMessage, RaftMessage } from '../../../node/ports.ts'
import type { Counts } from './counts.ts'
import { HostilePeer, type HostilePeerOptions } from './hostile-peer.ts'
import { type DeceivedNode, lieTo } from './raft-lies.ts'

export interface ConsenterOptions {
  readonly peer: HostilePeerOptions
  /** The other consenters. */
  readonly nodes: readonly (DeceivedNode & PeerAddress)[]
  /** How long it is there, and away, in turns. */
  readonly thereMs: number
  readonly awayMs: number
}

const dayMs = 86_400_000
const retryMs = 50

/** Comes and goes until it is over. */
export async function playConsenter(
  { peer: options, nodes, thereMs, awayMs }: ConsenterOptions,
  counts: Counts,
  over: AbortSignal,
): Promise<void> {
  while (!over.aborted) {
    const peer = new HostilePeer(options)
    await peer.start()
    const leaving = new Deadline(thereMs, { signal: over })
    try {
      await peer.connect(nodes)
      counts.add('turns')
    } catch {
      // The nodes are busy; whom it reaches it lies to.
    }
    while (!leaving.isOver)
      try {
        counts.add('Raft messages', await lieTo(nodes, peer))
        for (const node of nodes) counts.add('other lies', await lieBeside(node, nodes, peer))
      } catch {
        await leaving.pause(retryMs)
      }
    await peer.stop()
    await pause(awayMs, over)
  }
}

/** What it says to one node beside takeovers. Returns how many messages that were. */
async function lieBeside(
  node: DeceivedNode,
  all: readonly DeceivedNode[],
  peer: HostilePeer,
): Promise<number> {
  const { height, term, leader } = await node.status()
  const signatures = Array.from({ length: 8 }, (_, ahead) => ({
    incarnation: 0,
    height: Height(height + ahead),
    term: Term(term),
    headerHash: randomBytes(32).toString('hex') as Hash,
    signature: Uint8Array.from(randomBytes(64)),
  }))
  const clockOf = (id: PeerAddress['id'], offsetMs: number) => ({
    id,
    wall: (Date.now() + offsetMs) as Milliseconds,
    ageMs: 0,
  })
  const samples = [clockOf(peer.id, dayMs), ...all.map(({ id }) => clockOf(id, -dayMs))]
  const messages: PeerMessage[] = [
    ...answersTo(leader === node.id ? term : 0, peer.id),
    { type: 'signatures', signatures },
    { type: 'clocks', samples },
    { type: 'transactions', transactions: [Uint8Array.from(randomBytes(200))] },
  ]
  const refusals = refusalsOf(peer)
  if (refusals.length > 0) messages.push({ type: 'refusals', refusals })
  for (const message of messages) peer.network.send(node.id, message)
  return messages.length
}

/** To a leader of this term: places that its log does not have, a vote that it has not asked for, reads that nobody asked. */
function answersTo(term: number, from: string): readonly PeerMessage[] {
  if (term === 0) return []
  const beyond = 2 ** 40
  const answer = { type: 'append-response', from, term, success: true, full: false, mac: undefined } as const
  const places = { prevLogIndex: beyond, matchIndex: beyond, conflictIndex: 0, conflictTerm: 0 }
  const messages: readonly RaftMessage[] = [
    { ...answer, ...places, readContext: 0 },
    { type: 'vote', from, term, voteGranted: true, preVote: false },
    { type: 'snapshot-response', from, term, lastIncludedIndex: beyond, success: true },
  ]
  return messages.map(message => ({ type: 'raft', message }))
}

/** Refuses for good what was forwarded to it, as a leader could. */
function refusalsOf(peer: HostilePeer) {
  const forwarded = peer.received.flatMap(each => (each.type === 'transactions' ? each.transactions : []))
  peer.received.splice(0)
  return forwarded.slice(0, 64).map(bytes => ({
    id: idOfSigned(bytes),
    code: 'not-authorised',
    detail: 'refused by a hostile consenter',
  }))
}
