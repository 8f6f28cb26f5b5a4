/** `mote device trust` on a machine whose clock is wrong, and beside a source that takes its time. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { futureBoundMs } from '../../../client/freshness.ts'
import { serveDevnet } from '../../support/served-devnet.ts'

const hour = 3_600_000
/** Of the devnet's description. */
const trustTtlMs = 1_000

/** This machine's wall clock stands still, unless a test sets it. */
beforeEach(() => void vi.useFakeTimers({ toFake: ['Date'] }))
afterEach(() => void vi.useRealTimers())

test.each([
  ['right', 0, 0, false],
  ['at the limit of trustTtl', trustTtlMs, 0, false],
  ['just beyond it', trustTtlMs + 1, 1, true],
  ['an hour ahead', hour, 1, true],
  ['400 days ahead', 400 * 24 * hour, 1, true],
  ['behind within the bound', -futureBoundMs, 0, false],
  ['just beyond that', -futureBoundMs - 1, 1, true],
  ['an hour behind', -hour, 1, true],
])('trust: with a wall clock that is %s', async (_, offsetMs, code, stale) => {
  await using devnet = await serveDevnet()
  vi.setSystemTime(devnet.chain.time + offsetMs)
  const json = await devnet.mote('device', 'trust', 'sensor', '--json')
  const text = await devnet.mote('device', 'trust', 'sensor')
  expect([json.code, text.code]).toEqual([code, code])
  expect(JSON.parse(json.stdout)).toMatchObject({ status: 'active', verified: true, trusted: !stale, stale })
  expect(text.stdout).toMatch(stale ? /^not trusted: stale: trust data: / : /^trusted$/m)
  if (offsetMs < -futureBoundMs) expect(text.stdout).toMatch(/^verified at .*ahead of this machine's clock$/m)
})

test('trust: time that passes while the record is asked for counts, though the wall clock stands still', async () => {
  await using devnet = await serveDevnet()
  vi.setSystemTime(devnet.chain.time)
  for (const source of devnet.sources)
    source.beforeStateArrives = () => {
      const steady = performance.now.bind(performance)
      vi.spyOn(performance, 'now').mockImplementation(() => steady() + 2 * trustTtlMs)
    }
  const { code, stdout } = await devnet.mote('device', 'trust', 'sensor', '--json')
  vi.restoreAllMocks()
  const { ageMs, ...answer } = JSON.parse(stdout)
  expect([code, answer.trusted, answer.stale]).toEqual([1, false, true])
  expect(ageMs).toBeGreaterThan(2 * trustTtlMs - 1)
})
