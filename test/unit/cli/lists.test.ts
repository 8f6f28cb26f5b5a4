/** `mote device list` and `mote group list`: the papers' node list and topic list, on a chain in memory over HTTP. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Height } from '../../../chain/brands.ts'
import { keyIdOf } from '../../../chain/keys.ts'
import { groupIdOf } from '../../../chain/records.ts'
import { DeviceState } from '../../../mqtt-gateway/device/device-state.ts'
import { type ServedDevnet, serveDevnet } from '../../support/served-devnet.ts'
import { keysOf } from '../../support/test-chain.ts'

const [owner, member, third] = [keysOf('owner'), keysOf('member'), keysOf('third')]
const pumps = groupIdOf(owner.id, 'pumps')
let devnet: ServedDevnet

interface DeviceList {
  readonly devices: readonly { readonly name: string | null; readonly id: string; readonly copy?: string }[]
  readonly next: string | null
}

beforeAll(async () => {
  const many = Array.from({ length: 120 }, (_, i) => `sensor-${i}`)
  const names = [owner.name, member.name, third.name, ...many]
  devnet = await serveDevnet({ devices: names, startTime: Date.now() - 45_000 })
  await devnet.describe({ trustTtlMs: 600_000 })
  for (const keys of [owner, member, third]) await devnet.keep(keys)
  devnet.chain.perform(owner, { type: 'group.create', name: 'pumps', epochKeyHash: undefined })
  const members = [member.id, third.id].toSorted()
  devnet.chain.perform(owner, { type: 'group.add', group: pumps, members, membershipVersion: 1 })
})
afterAll(() => devnet[Symbol.asyncDispose]())

const json = async <T>(...args: readonly string[]): Promise<T> => {
  const { code, stdout, notes } = await devnet.mote(...args, '--json')
  expect(code, notes).toBe(0)
  return JSON.parse(stdout) as T
}

test('device list: every identity once, page by page, with its keys; --after goes on', async () => {
  const all = await json<DeviceList>('device', 'list')
  expect(all.next).toBeNull()
  expect(new Set(all.devices.map(({ id }) => id)).size).toBe(all.devices.length)
  expect(all.devices.find(({ name }) => name === 'owner')).toMatchObject({
    id: owner.id,
    status: 'active',
    keys: [
      { purpose: 'sign', suite: 'ed25519', keyId: keyIdOf(owner.signing.publicKey) },
      { purpose: 'encrypt', suite: 'x25519', keyId: keyIdOf(owner.encryption.publicKey) },
    ],
  })
  const first = await json<DeviceList>('device', 'list', '--limit', '1')
  expect(first.devices).toHaveLength(64)
  const rest = await json<DeviceList>('device', 'list', '--after', first.next!)
  expect([...first.devices, ...rest.devices]).toEqual(all.devices)
  const { code, notes } = await devnet.mote('device', 'list', '--after', 'x')
  expect([code, notes]).toEqual([2, expect.stringContaining('after: expected 64 hexadecimal characters')])
  expect((await devnet.mote('device', 'list')).stdout).toContain("that none is missing is the node's word")
})

test("device list --from: a device's copies beside the chain's keys: same, differs, absent", async () => {
  const state = await DeviceState.open(join(devnet.directory, 'devices', 'owner'))
  const height = 1 as Height
  await state.setContact(member.id, { key: member.encryption.publicKey, height })
  await state.setContact(third.id, { key: member.encryption.publicKey, height })
  const { devices } = await json<DeviceList>('device', 'list', '--from', 'owner')
  const copies = Object.fromEntries(devices.map(({ id, copy }) => [id, copy]))
  expect([owner, member, third, keysOf('sensor-1')].map(({ id }) => copies[id])).toEqual([
    'same',
    'same',
    'differs',
    'absent',
  ])
})

test('group list: every group with its owner, its members, and who holds its key', async () => {
  const people = (list: readonly { readonly name: string; readonly id: string }[]) =>
    list.map(({ name, id }) => ({ name, id })).toSorted((a, b) => (a.id < b.id ? -1 : 1))
  expect(await json('group', 'list')).toMatchObject({
    groups: [
      {
        name: 'pumps',
        id: pumps,
        owner: { name: 'owner', id: owner.id },
        members: people([owner, member, third]),
        epoch: 0,
        epochKeyHash: null,
        holders: [],
      },
    ],
    next: null,
    verified: true,
  })
})

test('device list: a node that lists a changed record is passed over; one that all serve is bad-proof', async () => {
  const change = (source: ServedDevnet['sources'][number]) => {
    source.tamperPage = page => ({ ...page, answers: page.answers.toReversed() })
  }
  const [first, ...others] = devnet.sources
  change(first!)
  const { devices } = await json<DeviceList>('device', 'list')
  expect(devices.length).toBeGreaterThan(120)
  for (const other of others) change(other)
  const { code, stdout } = await devnet.mote('device', 'list')
  expect([code, stdout]).toEqual([1, ''])
  for (const source of devnet.sources) source.tamperPage = page => page
})
