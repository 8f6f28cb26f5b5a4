/**
 * A program of a devnet whose wall clock is wrong by a given amount, for `mote chaos clock`.
 *
 * The supervisor writes a line of this form into the child's standard input, a pipe that it alone holds; it may do so at any
 * time, so a clock can jump under a running program as when somebody sets it. All that the program and its libraries read
 * from `Date` is shifted, the times in its log included. Steady time (`performance.now`, timers) is not.
 *
 * No configuration file and no environment variable shifts a clock: a program listens to its standard input only under a
 * supervisor (`MOTE_SUPERVISED=1`), and until it is told of an offset `Date` is not touched.
 */
import { MoteError } from '../chain/result.ts'

/** How far a clock can be shifted, either way. */
export const clockOffsetMsMax = 3_650 * 86_400_000

const unitsMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** `+1h`, `-70s`, `+400d` or `0` in milliseconds. Throws `usage`. */
export function parseClockOffset(text: string): number {
  if (/^[+-]?0$/.test(text)) return 0
  const match = /^([+-])(\d{1,12}(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text)
  const unit = unitsMs[(match?.[3] ?? 'ms') as keyof typeof unitsMs]
  const offsetMs = Math.round(Number(`${match?.[1]}${match?.[2]}`) * unit)
  if (!match || !isClockOffset(offsetMs))
    throw new MoteError(
      'usage',
      `offset: expected 0, or a sign, a number and one of ${Object.keys(unitsMs).join(', ')}, as +1h, -70s or +400d, up to ten years; got '${text}'`,
    )
  return offsetMs
}

/** Whether a value from outside is an offset in milliseconds. */
export function isClockOffset(value: unknown): value is number {
  return Number.isInteger(value) && Math.abs(value as number) <= clockOffsetMsMax
}

/** For people: `+1 h`, `-70 s`. */
export function clockOffsetText(offsetMs: number): string {
  const sign = offsetMs < 0 ? '-' : '+'
  const size = Math.abs(offsetMs)
  const [name, unitMs] = Object.entries(unitsMs).findLast(([, each]) => size % each === 0) ?? ['ms', 1]
  return `${sign}${size / unitMs} ${name}`
}

/** The line that shifts the clock of the program that reads it. */
export function clockLine(offsetMs: number): string {
  return `${JSON.stringify({ clockOffsetMs: offsetMs })}\n`
}

/** A reader of standard input, chunk by chunk, that does what `clockLine` says. Other lines are not looked at. */
export function clockLineReader(shift: (offsetMs: number) => void = shiftWallClock): (text: string) => void {
  let line = ''
  return text => {
    const lines = (line + text).split('\n')
    line = lines.pop() ?? ''
    for (const whole of lines) {
      const offsetMs = /^\{"clockOffsetMs":(-?\d{1,15})\}$/.exec(whole)?.[1]
      if (offsetMs !== undefined && isClockOffset(Number(offsetMs))) shift(Number(offsetMs))
    }
  }
}

const rightNow = Date.now
let shiftMs = 0

/** From now on `Date` is ahead of the machine's clock by this much, in this process. */
export function shiftWallClock(offsetMs: number): void {
  shiftMs = offsetMs
  if (Date.now !== rightNow) return
  const now = (): number => rightNow() + shiftMs
  Date.now = now
  globalThis.Date = new Proxy(Date, {
    construct: (date, args, newTarget) =>
      Reflect.construct(date, args.length === 0 ? [now()] : args, newTarget),
  })
}
