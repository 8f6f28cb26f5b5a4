/** Streams of a link: opened ahead, and one for each protocol whatever is sent meanwhile. */
import type { Connection } from '@libp2p/interface'
import { expect, test } from 'vitest'
import { PeerLink } from '../../../node/network/peer-links.ts'
import { defaultNetworkLimits } from '../../../node/network/protocols.ts'
import { ManualClock } from '../../support/manual-clock.ts'

test('peer link: what leaves soon waits for the next frame to that peer, in order, or a moment at most', async () => {
  const sent: string[] = []
  const connection = {
    remotePeer: {},
    status: 'open',
    newStream: async (id: string) => ({
      status: 'open',
      writableNeedsDrain: false,
      addEventListener: () => {},
      send: (frame: Uint8Array) => sent.push(`${id} ${frame.at(-1)}`),
    }),
  } as unknown as Connection
  const clock = new ManualClock()
  const options = { limits: defaultNetworkLimits, clock, onStreamLost: () => {}, onViolation: () => {} }
  const link = new PeerLink(connection, options)
  for (const protocol of ['raft', 'certify'] as const) link.prepare(protocol)
  await Promise.resolve()
  link.send('raft', Uint8Array.of(1), 'soon')
  link.send('raft', Uint8Array.of(2), 'soon')
  expect(sent).toEqual([])
  link.send('certify', Uint8Array.of(3))
  expect(sent).toEqual(['/mote/raft/1 1', '/mote/raft/1 2', '/mote/certify/1 3'])
  link.send('raft', Uint8Array.of(4), 'soon')
  clock.advance(10)
  expect(sent.at(-1)).toBe('/mote/raft/1 4')
  for (let i = 0; i < 17; i++) link.send('raft', Uint8Array.of(10 + i), 'soon')
  expect(sent.at(-1), 'no more than a few wait').toBe('/mote/raft/1 26')
})

test('peer link: a stream that was opened ahead is the one that is sent on', () => {
  const opened: string[] = []
  const connection = {
    remotePeer: {},
    newStream: (id: string) => {
      opened.push(id)
      return new Promise(() => {})
    },
  } as unknown as Connection
  const link = new PeerLink(connection, {
    limits: defaultNetworkLimits,
    clock: new ManualClock(),
    onStreamLost: () => {},
    onViolation: () => {},
  })
  link.prepare('raft')
  link.prepare('raft')
  expect(opened).toHaveLength(1)
  link.send('raft', Uint8Array.of(1))
  expect(opened).toHaveLength(1)
  link.send('certify', Uint8Array.of(1))
  expect(opened).toHaveLength(2)
})

/** A connection whose streams break while they are written to, as libp2p's do: the event comes before `send` throws. */
function breakingConnection(): Connection {
  const newStream = async () => {
    let close: (event: { error: Error }) => void = () => {}
    return {
      status: 'open',
      writableNeedsDrain: false,
      addEventListener: (type: string, listener: typeof close) => {
        if (type === 'close') close = listener
      },
      abort: () => {},
      send: () => {
        const error = new Error('broken')
        close({ error })
        throw error
      },
    }
  }
  return { remotePeer: {}, status: 'open', newStream } as unknown as Connection
}

test('peer link: a loss is told after send has returned, never from within it', async () => {
  const happened: string[] = []
  const link = new PeerLink(breakingConnection(), {
    limits: defaultNetworkLimits,
    clock: new ManualClock(),
    onStreamLost: (_link, reason) => happened.push(reason),
    onViolation: () => {},
  })
  link.prepare('raft')
  await Promise.resolve()
  link.send('raft', Uint8Array.of(1))
  happened.push('sent')
  await Promise.resolve()
  expect(happened).toEqual(['sent', 'raft: broken'])
})

test('peer link: what waits when a newer connection takes over does not open a stream on the older one', async () => {
  const opened: string[] = []
  const connection = {
    remotePeer: {},
    status: 'open',
    newStream: (id: string) => {
      opened.push(id)
      return new Promise(() => {})
    },
  } as unknown as Connection
  const clock = new ManualClock()
  const link = new PeerLink(connection, {
    limits: defaultNetworkLimits,
    clock,
    onStreamLost: () => {},
    onViolation: () => {},
  })
  link.prepare('certify')
  link.send('certify', Uint8Array.of(1), 'soon')
  link.supersede()
  clock.advance(10)
  expect(opened).toEqual(['/mote/certify/1'])
})
