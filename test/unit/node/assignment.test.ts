import { describe, expect, it } from 'vitest'
import { assign, rendezvousOrder } from '../../../node/registry/live-nodes.ts'
import { keysOf } from '../../support/test-chain.ts'

const nodes = Array.from({ length: 5 }, (_, i) => ({ id: keysOf(`full-${i}`).id }))
const devices = Array.from({ length: 200 }, (_, i) => keysOf(`device-${i}`).id)

describe('assignment', () => {
  it('assignment: does not depend on the order in which full nodes are known', () => {
    for (const device of devices.slice(0, 20))
      expect(rendezvousOrder(device, nodes.toReversed())).toEqual(rendezvousOrder(device, nodes))
  })

  it('assignment: when a full node dies only its devices move, each to its first backup', () => {
    for (const dead of nodes) {
      const rest = nodes.filter(node => node !== dead)
      for (const device of devices) {
        const before = assign(device, nodes)!
        const after = assign(device, rest)!
        expect(after.fullNode).toBe(before.fullNode === dead ? before.backups[0] : before.fullNode)
      }
    }
  })

  it('assignment: when a full node comes back exactly the devices it had return', () => {
    const [back, ...rest] = nodes
    for (const device of devices) {
      const now = assign(device, nodes)!.fullNode
      expect(now === back || now === assign(device, rest)!.fullNode).toBe(true)
    }
  })

  it('assignment: spreads devices over the full nodes', () => {
    const load = new Map(nodes.map(node => [node, 0]))
    for (const device of devices) {
      const { fullNode } = assign(device, nodes)!
      load.set(fullNode, load.get(fullNode)! + 1)
    }
    for (const count of load.values()) expect(count).toBeGreaterThan(devices.length / nodes.length / 2)
  })

  it('assignment: names two backups, fewer when fewer live, nothing when none lives', () => {
    const device = devices[0]!
    expect(assign(device, nodes)!.backups).toHaveLength(2)
    expect(assign(device, nodes.slice(0, 2))!.backups).toHaveLength(1)
    expect(assign(device, nodes.slice(0, 1))!.backups).toHaveLength(0)
    expect(assign(device, [])).toBeUndefined()
  })
})
