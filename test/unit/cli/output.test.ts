/**
 * What people and programs read: colour only on a terminal, tables that line up, one JSON value per line.
 */
import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { printKillLeader } from '../../../cli/chaos-runs.ts'
import { durationText, Output, printable, provenance } from '../../../cli/output.ts'
import type { KillLeaderReport } from '../../../devnet/chaos/kill-leader.ts'

function output(options: { json?: boolean; terminal?: boolean; environment?: NodeJS.ProcessEnv } = {}): {
  output: Output
  read: () => string
} {
  const stdout = Object.assign(new PassThrough(), { isTTY: options.terminal ?? false })
  const stderr = new PassThrough()
  return {
    output: new Output({
      streams: { stdout, stderr },
      json: options.json ?? false,
      environment: options.environment ?? {},
    }),
    read: () => (stdout.read() as Buffer | null)?.toString('utf8') ?? '',
  }
}

test('output: colour on a terminal only, and never with NO_COLOR or --json', () => {
  expect(output({ terminal: true }).output.paint('red', 'x')).toBe('\u001b[31mx\u001b[0m')
  expect(output().output.paint('red', 'x')).toBe('x')
  expect(output({ terminal: true, environment: { NO_COLOR: '1' } }).output.paint('red', 'x')).toBe('x')
  expect(output({ terminal: true, environment: { NO_COLOR: '' } }).output.paint('red', 'x')).not.toBe('x')
  expect(output({ terminal: true, json: true }).output.paint('red', 'x')).toBe('x')
})

test('output: JSON is one value on one line and leaves the text out', () => {
  const { output: json, read } = output({ json: true })
  json.data({ a: 1, b: undefined, c: null }, () => 'text')
  expect(read()).toBe('{"a":1,"c":null}\n')
})

test('output: columns line up, absent values are a dash, no blanks at the end of a line', () => {
  const table = output().output.table(
    [
      { a: 'long name', b: 1 as number | null },
      { a: 'x', b: null },
    ],
    {
      a: row => row.a,
      b: row => row.b,
    },
  )
  expect(table).toBe('a          b\nlong name  1\nx          -')
})

test('output: durations and provenance as people say them', () => {
  expect([12, 999, 1_000, 119_000, 300_000].map(durationText)).toEqual([
    '12 ms',
    '999 ms',
    '1.0 s',
    '119.0 s',
    '5 min',
  ])
  expect(provenance({ height: 7, term: 2, ageMs: 1_500 })).toBe('at height 7, term 2, 1.5 s old')
  const future = provenance({ height: 7, term: 2, ageMs: Number.POSITIVE_INFINITY })
  expect(future).toBe("at height 7, term 2, ahead of this machine's clock")
})

test('kill-leader: an acknowledged transaction that is lost exits 1', () => {
  const result: KillLeaderReport = {
    oldLeader: 'full-1',
    newLeader: 'full-2',
    oldTerm: 1,
    newTerm: 2,
    electionMs: 600,
    unavailableMs: 700,
    acked: 400,
    ackedLost: 0,
  }
  const kept = output({ json: true })
  expect(printKillLeader(kept, result)).toBe(0)
  expect(JSON.parse(kept.read())).toEqual(result)
  expect(printKillLeader(output({ json: true }), { ...result, ackedLost: 1 })).toBe(1)
})

test('output: a text of somebody else stays on its line, and commands nothing', () => {
  expect(printable('21.5 °C, ok → 私')).toBe('21.5 °C, ok → 私')
  expect(printable('ok\n1112 → forged')).toBe('ok\\n1112 → forged')
  expect(printable('\u001b[2J\u0007\u009b31m\u202egpj\t')).toBe('\\u001b[2J\\u0007\\u009b31m\\u202egpj\\t')
})
