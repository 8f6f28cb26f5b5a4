/** `mote device rights` and `mote group owner` on a chain in memory: what they set, print and refuse. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { groupIdOf } from '../../../chain/records.ts'
import { type ServedDevnet, serveDevnet } from '../../support/served-devnet.ts'
import { keysOf } from '../../support/test-chain.ts'

const [owner, member] = [keysOf('owner'), keysOf('member')]
const group = groupIdOf(owner.id, 'pumps')

let devnet: ServedDevnet

beforeAll(async () => {
  devnet = await serveDevnet({ devices: [owner.name, member.name], startTime: Date.now() - 45_000 })
  for (const keys of [owner, member]) await devnet.keep(keys)
})
afterAll(() => devnet[Symbol.asyncDispose]())

async function json(...args: readonly string[]) {
  const { code, stdout, notes } = await devnet.mote(...args, '--json')
  return { code, notes, value: stdout === '' ? undefined : JSON.parse(stdout) }
}

const none = { publish: [], subscribe: [], observe: false, gateway: false }

test('rights: none at first, then what the options say, whole, shown by device show too', async () => {
  expect((await json('device', 'rights', 'member')).value).toMatchObject({ ...none, version: 0 })
  const set = ['--publish', 'plant/b/#', 'plant/a', '--observe']
  const given = await json('device', 'rights', 'member', ...set)
  expect(given, given.notes).toMatchObject({
    code: 0,
    value: { ...none, publish: ['plant/a', 'plant/b/#'], observe: true, version: 1 },
  })
  expect((await json('device', 'show', 'member')).value.rights).toEqual({
    ...none,
    publish: ['plant/a', 'plant/b/#'],
    observe: true,
  })
  const next = await json('device', 'rights', 'member', '--subscribe', 'plant/#', '--gateway')
  expect(next.value).toMatchObject({ ...none, subscribe: ['plant/#'], gateway: true, version: 2 })
  const text = (await devnet.mote('device', 'rights', 'member')).stdout
  expect(text).toMatch(/subscribe +plant\/#\nrights +gateway\n/)
  expect((await json('device', 'rights', 'member', '--none')).value).toMatchObject({ ...none, version: 3 })
})

test('rights: a filter that matches what is not plain is a usage error, and so is none beside others', async () => {
  for (const filter of ['#', 'mote/1/#', '$SYS/#', 'a/#/b'])
    expect((await json('device', 'rights', 'member', '--publish', filter)).code, filter).toBe(2)
  expect((await json('device', 'rights', 'member', '--none', '--observe')).code).toBe(2)
})

test("group owner: an operator gives a revoked owner's group to a member, and to nobody else", async () => {
  const { chain } = devnet
  chain.perform(owner, { type: 'group.create', name: 'pumps', epochKeyHash: undefined })
  chain.perform(owner, { type: 'group.add', group, membershipVersion: 1, members: [member.id] })
  expect((await json('group', 'owner', group, 'sensor')).notes).toContain('invalid-state')
  expect((await json('device', 'revoke', 'owner')).code).toBe(0)
  const given = await json('group', 'owner', group, 'member')
  expect(given, given.notes).toMatchObject({ code: 0, value: { owner: { name: 'member' } } })
  expect((await json('group', 'owner', group, 'member')).notes).toContain('already-exists')
  expect((await json('group', 'owner', 'ab'.repeat(32), 'member')).code).toBe(3)
})

test('group create: without a gateway there is a group and no epoch key yet, and the command says so', async () => {
  const made = await json('group', 'create', 'valves', '--from', 'member')
  expect(made, made.notes).toMatchObject({ code: 0, value: { name: 'valves', epoch: 0 } })
  expect(made.notes).toMatch(/^no epoch key yet, the next member to send makes it: unreachable: /)
})
