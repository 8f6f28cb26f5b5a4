/** `mote group show` and `mote device send --group` on a chain in memory: what is proven, and what is said of a group that is not there. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { groupIdOf } from '../../../chain/records.ts'
import { type ServedDevnet, serveDevnet } from '../../support/served-devnet.ts'
import { keysOf } from '../../support/test-chain.ts'

const owner = keysOf('owner')
const pumps = groupIdOf(owner.id, 'pumps')

let devnet: ServedDevnet

beforeAll(async () => {
  devnet = await serveDevnet({ devices: [owner.name], startTime: Date.now() - 45_000 })
  await devnet.describe({ trustTtlMs: 600_000 })
  await devnet.keep(owner)
  devnet.chain.perform(owner, { type: 'group.create', name: 'pumps', epochKeyHash: undefined })
})
afterAll(() => devnet[Symbol.asyncDispose]())

test('group show: says that what it shows is verified, and as of when', async () => {
  const { code, stdout, notes } = await devnet.mote('group', 'show', pumps)
  expect(code, notes).toBe(0)
  expect(stdout).toMatch(/\nverified at height \d+, term \d+, /)
})

test('group: one that is not there is named by whoever asks, with one exit code', async () => {
  const absent = groupIdOf(owner.id, 'nope')
  for (const [args, said] of [
    [['group', 'show', 'nope'], "'nope' is no name here"],
    [
      ['group', 'show', 'nope', '--from', 'owner'],
      `unknown-subject: group 'nope' (${absent}): proven absent`,
    ],
    [['group', 'show', absent], `unknown-subject: group ${absent}: proven absent`],
    [
      ['device', 'send', '--group', 'nope', 'text', '--from', 'owner'],
      `unknown-subject: group 'nope' (${absent}): proven absent`,
    ],
  ] as const) {
    const { code, notes } = await devnet.mote(...args)
    expect(notes, args.join(' ')).toContain(said)
    expect(code, args.join(' ')).toBe(3)
  }
})

test('keys: a key file that cannot be read is no configuration file: key-invalid, and its name', async () => {
  const broken = keysOf('broken')
  await devnet.keep(broken)
  const file = join(devnet.directory, 'keys', 'broken.json')
  writeFileSync(file, 'garbage')
  const { code, notes } = await devnet.mote('device', 'send', 'sensor', 'text', '--from', 'broken')
  expect(notes).toContain(`key-invalid: ${file}: expected JSON\nA key file, `)
  expect(code).toBe(2)
})
