/** `mote device credentials` on a chain in memory: what it makes, lists, takes away and refuses. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { credentialHash } from '../../../chain/credentials.ts'
import { parsePassword } from '../../../mqtt-gateway/protocol/credential-password.ts'
import { type ServedDevnet, serveDevnet } from '../../support/served-devnet.ts'
import { keysOf } from '../../support/test-chain.ts'

const meter = keysOf('meter')
let devnet: ServedDevnet

beforeAll(async () => {
  devnet = await serveDevnet({ devices: [meter.name], startTime: Date.now() - 45_000 })
  await devnet.keep(meter)
})
afterAll(() => devnet[Symbol.asyncDispose]())

async function json(...args: readonly string[]) {
  const { code, stdout, notes } = await devnet.mote('device', 'credentials', 'meter', ...args, '--json')
  return { code, notes, value: stdout === '' ? undefined : JSON.parse(stdout) }
}

test('credentials: a password whose hash is on the chain, at most four, and the ones that are revoked go', async () => {
  const { code, value, notes } = await json('--for', '30d')
  expect(code, notes).toBe(0)
  const password = parsePassword(value.password)
  expect(value).toMatchObject({
    username: meter.id,
    clientId: `${meter.id}.c${value.hash.slice(0, 8)}`,
    scope: 'send',
    hash: credentialHash(devnet.chain.chainId, meter.id, password!),
  })
  const others = []
  for (let i = 0; i < 3; i++) others.push((await json('--for', '90m', '--scope', 'receive')).value)
  expect((await json('--for', '1h')).notes).toContain('limit-exceeded')
  const listed = await json('--list')
  expect(listed.value.credentials).toHaveLength(4)
  expect(JSON.stringify(listed.value)).not.toContain(value.password)
  expect((await json('--revoke', value.hash.slice(0, 12))).value.credentials).toHaveLength(3)
  expect((await json('--revoke', others[0].hash, '--operator')).value.credentials).toHaveLength(2)
  expect((await json('--revoke', 'ffffffff00')).code).toBe(3)
  const text = (await devnet.mote('device', 'credentials', 'meter', '--list')).stdout
  expect(text).toContain(`${others[1].hash}  receive`)
})

test('credentials: a time or scope that is none, and two wishes at once, are usage errors', async () => {
  for (const args of [
    ['--for', '401d'],
    ['--for', '0h'],
    ['--for', '30'],
    ['--for', '1h', '--scope', 'all'],
    ['--list', '--for', '1h'],
  ])
    expect((await json(...args)).code, args.join(' ')).toBe(2)
})
