import { describe, expect, it } from 'vitest'
import { Height, Milliseconds } from '../../../chain/brands.ts'
import type { Heartbeat } from '../../../node/network/request-table.ts'
import { LiveNodes } from '../../../node/registry/live-nodes.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { keysOf } from '../../support/test-chain.ts'

const [a, b] = [keysOf('full-1').id, keysOf('full-2').id]
const heartbeat: Heartbeat = {
  addresses: ['/ip4/127.0.0.1/tcp/4001'],
  api: 'http://127.0.0.1:4000',
  height: Height(1),
  certifiedHeight: Height(1),
  signed: Uint8Array.of(1),
  clients: 0,
  maxClients: 100,
  time: Milliseconds(0),
}

describe('live nodes', () => {
  it('live nodes: one that is silent for three heartbeats is dead, the others live on', () => {
    const clock = new ManualClock()
    const live = new LiveNodes(clock)
    live.beat(a, heartbeat)
    live.beat(b, heartbeat)
    clock.advance(2_500)
    live.beat(b, heartbeat)
    expect(live.expire()).toEqual([])
    clock.advance(501)
    expect(live.expire()).toEqual([a])
    expect(live.all().map(node => node.id)).toEqual([b])
  })

  it('live nodes: a wall clock that is set kills nobody and keeps nobody alive', () => {
    const clock = new ManualClock()
    const live = new LiveNodes(clock)
    live.beat(a, heartbeat)
    clock.shift(60_000)
    expect(live.expire()).toEqual([])
    clock.shift(-3_600_000)
    clock.advance(3_001)
    expect(live.expire()).toEqual([a])
  })

  it('live nodes: tells a new life from another heartbeat', () => {
    const live = new LiveNodes(new ManualClock())
    expect([live.beat(a, heartbeat), live.beat(a, heartbeat)]).toEqual([true, false])
    expect([live.remove(a), live.remove(a)]).toEqual([true, false])
    expect(live.beat(a, heartbeat)).toBe(true)
  })
})
