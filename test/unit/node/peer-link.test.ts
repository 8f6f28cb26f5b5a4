/** Streams of a link: opened ahead, and one for each protocol whatever is sent meanwhile. */
import type { Connection } from '@libp2p/interface'
import { expect, test } from 'vitest'
import { PeerLink } from '../../../node/network/peer-links.ts'
import { defaultNetworkLimits } from '../../../node/network/protocols.ts'
import { ManualClock } from '../../support/manual-clock.ts'

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
