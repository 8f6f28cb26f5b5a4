/**
 * Makes test/vectors/raft.json: one frame of `/mote/raft/1` for each kind of Raft message, and bytes that are none, for
 * implementations in other languages. `node test/vectors/make-raft.ts` writes the file.
 */
import { writeFileSync } from 'node:fs'
import { bytesToHex } from '@noble/hashes/utils.js'
import { encode } from '../../chain/codec.ts'
import { type RaftFrame, raftCodec } from '../../node/network/wire.ts'

const configuration = { voters: ['a', 'b'], votersOutgoing: ['b'], learners: ['c'] }

/** A term that takes more than 32 bits is among them. */
export const raftFrames: readonly RaftFrame[] = [
  {
    type: 'request-vote',
    term: 3,
    lastLogIndex: 9,
    lastLogTerm: 2,
    preVote: true,
    leadershipTransfer: false,
  },
  { type: 'vote', term: 3, voteGranted: true, preVote: false },
  {
    type: 'append-entries',
    term: 2 ** 40,
    prevLogIndex: 7,
    prevLogTerm: 1,
    leaderCommit: 6,
    readContext: 4,
    entries: [
      { index: 8, term: 2, type: 'command', data: Uint8Array.of(1, 2) },
      { index: 9, term: 2, type: 'noop', data: new Uint8Array() },
      { index: 10, term: 2, type: 'configuration', data: new Uint8Array(), configuration },
    ],
  },
  {
    type: 'append-response',
    term: 3,
    success: true,
    prevLogIndex: 8,
    matchIndex: 9,
    conflictIndex: 0,
    conflictTerm: 0,
    readContext: 4,
    full: false,
    mac: new Uint8Array(32).fill(7),
  },
  {
    type: 'install-snapshot',
    term: 3,
    snapshot: { lastIncludedIndex: 5, lastIncludedTerm: 2, configuration },
  },
  { type: 'snapshot-response', term: 3, lastIncludedIndex: 5, success: true },
  { type: 'timeout-now', term: 3 },
  { type: 'heard', term: 3, readContext: 4 },
]

/** What is refused, each with why. */
const refused = {
  'a kind that does not exist': '920f9103',
  'an answer to an append whose mac is too short': `92049903c30809000004c2c41f${'07'.repeat(31)}`,
  'heard without its round': '92089103',
  'heard with a field too many': '9208930304c0',
  'heard with a negative round': '92089203ff',
  'heard whose term is longer than it need be': '920892cd000304',
}

export function raftVectors() {
  return {
    about:
      'Frames of /mote/raft/1, one of each kind of Raft message, and bytes that are refused. Hexadecimal. The index of an ' +
      'entry does not travel: it follows prevLogIndex.',
    frames: raftFrames.map(frame => ({
      message: shown(frame),
      encoded: bytesToHex(encode(raftCodec, frame)),
    })),
    refused,
  }
}

/** A message as JSON has it. */
function shown(frame: RaftFrame): unknown {
  if (frame.type === 'append-response') return { ...frame, mac: frame.mac && bytesToHex(frame.mac) }
  if (frame.type !== 'append-entries') return frame
  return { ...frame, entries: frame.entries.map(entry => ({ ...entry, data: bytesToHex(entry.data) })) }
}

if (import.meta.main) {
  const file = new URL('raft.json', import.meta.url)
  writeFileSync(file, `${JSON.stringify(raftVectors(), undefined, 2)}\n`)
}
