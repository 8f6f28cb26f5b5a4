/** A wall clock that is wrong: how an offset is read, what it reaches, and that nothing but the supervisor sets it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { clockLines } from '../../../cli/devnet-status.ts'
import { Child } from '../../../devnet/child.ts'
import { parseRequest } from '../../../devnet/control.ts'
import {
  clockLine,
  clockLineReader,
  clockOffsetMsMax,
  clockOffsetText,
  parseClockOffset,
  shiftWallClock,
} from '../../../devnet/shifted-clock.ts'

const hour = 3_600_000
const day = 24 * hour

afterEach(() => shiftWallClock(0))

describe('clock offset', () => {
  test.each([
    ['+1h', hour],
    ['-70s', -70_000],
    ['+400d', 400 * day],
    ['+1.5m', 90_000],
    ['-250ms', -250],
    ['0', 0],
  ])('%s', (text, offsetMs) => {
    expect(parseClockOffset(text)).toBe(offsetMs)
  })

  test.each(['1h', '+1', '+h', '-1y', '+4000d', '+1h ', '', '--json'])('refuses %j', text => {
    expect(() => parseClockOffset(text)).toThrow('offset: expected 0, or a sign')
  })

  test('is said in the largest unit that fits', () => {
    expect([hour, -70_000, 400 * day, -250].map(clockOffsetText)).toEqual([
      '+1 h',
      '-70 s',
      '+400 d',
      '-250 ms',
    ])
  })

  test('as a request: whole milliseconds within the limit', () => {
    const request = { command: 'clock', node: 'full-1', offsetMs: -clockOffsetMsMax }
    expect(parseRequest(JSON.stringify(request))).toEqual(request)
    for (const offsetMs of [clockOffsetMsMax + 1, 0.5, '1', null, undefined])
      expect(() => parseRequest(JSON.stringify({ ...request, offsetMs }))).toThrow('malformed')
  })
})

describe('a shifted wall clock', () => {
  test('is what all of Date shows; steady time goes on as it was', () => {
    const before = new Date()
    const steady = performance.now()
    for (const offsetMs of [hour, -70_000, 400 * day, 0]) {
      const from = before.getTime() + offsetMs
      shiftWallClock(offsetMs)
      for (const shown of [Date.now(), Date.parse(new Date().toISOString())]) {
        expect(shown).toBeGreaterThanOrEqual(from)
        expect(shown).toBeLessThan(from + 60_000)
      }
    }
    expect(performance.now() - steady).toBeLessThan(60_000)
    expect(new Date(0).toISOString()).toBe('1970-01-01T00:00:00.000Z')
    expect(before).toBeInstanceOf(Date)
    expect(new Date()).toBeInstanceOf(Date)
    expect(Date.parse('1970-01-01T00:00:01Z')).toBe(1_000)
  })

  test('is set by whole lines of the one form, in whatever chunks they come', () => {
    const shifts: number[] = []
    const read = clockLineReader(offsetMs => shifts.push(offsetMs))
    for (const character of clockLine(-70_000)) read(character)
    read(
      `${clockLine(hour)}{"clockOffsetMs":1e3}\n{"clockOffsetMs":${clockOffsetMsMax + 1}}\nhello\n${clockLine(0)}`,
    )
    read('{"clockOffsetMs":5}')
    expect(shifts).toEqual([-70_000, hour, 0])
  })

  test('status names it, and who calls whose clock wrong', () => {
    const right = { clockOffsetMs: 0, oddClocks: [] }
    const odd = [{ node: 'full-2', offsetMs: -70_400 }]
    expect(clockLines([{ name: 'full-1', ...right }], [{ name: 'full-1', ...right }])).toEqual([])
    expect(
      clockLines(
        [{ name: 'full-2', clockOffsetMs: -70_000 }],
        ['full-1', 'full-3'].map(name => ({ name, oddClocks: odd })),
      ),
    ).toEqual(['clock of full-2: shifted by -70 s', 'clock of full-2: 70.4 s behind, says full-1, full-3'])
  })
})

test('a child has its offset at once, and again when it is started again', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'mote-clock-'))
  const entry = join(directory, 'program.mjs')
  writeFileSync(
    entry,
    `process.stdin.setEncoding('utf8').on('data', text => console.log(text.trim())).on('end', () => process.exit(0))
     console.log('{"ready":true}')`,
  )
  const program = { executable: process.execPath, entry }
  const child = new Child({
    name: 'program',
    program,
    arguments: [],
    logPath: join(directory, 'log'),
    onUnexpectedEnd: () => {},
  })
  const heard = () => child.log.tail(50).filter(line => line.includes('clockOffsetMs'))
  const untilHeard = async (count: number) => {
    const deadline = performance.now() + 30_000
    while (heard().length < count) {
      if (performance.now() > deadline) throw new Error(`heard ${heard()}`)
      await new Promise(resolve => setTimeout(resolve, 10))
    }
  }
  try {
    child.start()
    await child.waitUntilReady(AbortSignal.timeout(30_000))
    child.shiftClock(hour)
    await untilHeard(1)
    await child.stop(5_000)
    child.start()
    await untilHeard(2)
    expect(heard()).toEqual([clockLine(hour), clockLine(hour)].map(line => line.trim()))
  } finally {
    child.kill()
    await child.ended
    rmSync(directory, { recursive: true, force: true })
  }
})
