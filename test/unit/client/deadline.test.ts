import { describe, expect, test } from 'vitest'
import { Deadline, pause, unlessAborted } from '../../../client/deadline.ts'
import { ManualClock } from '../../support/manual-clock.ts'

const never = new Promise<never>(() => {})
const settled = () => new Promise(resolve => setImmediate(resolve))

describe('deadline', () => {
  test('counts down by the steady clock, and is over at 0', () => {
    const clock = new ManualClock(0)
    const deadline = new Deadline(100, { clock })
    expect([deadline.remainingMs, deadline.isOver]).toEqual([100, false])
    clock.advance(40)
    expect(deadline.remainingMs).toBe(60)
    clock.advance(60)
    expect([deadline.remainingMs, deadline.isOver]).toEqual([0, true])
  })

  test('race and within: the step, or the end of the time, or the signal', async () => {
    const clock = new ManualClock(0)
    const deadline = new Deadline(100, { clock })
    const late = () => new Error('late')
    expect(await deadline.race(Promise.resolve(7))).toBe(7)
    await expect(deadline.within(Promise.reject(new Error('broken')), late)).rejects.toThrow('broken')
    expect(await deadline.within(Promise.resolve(undefined), late)).toBeUndefined()
    const [raced, within] = [deadline.race(never), deadline.within(never, late)]
    within.catch(() => {})
    clock.advance(100)
    expect(await raced).toBeUndefined()
    await expect(within).rejects.toThrow('late')
    const controller = new AbortController()
    const stopped = new Deadline(100, { clock, signal: controller.signal })
    const waiting = stopped.race(never)
    controller.abort()
    expect([await waiting, stopped.isOver, stopped.signal.aborted]).toEqual([undefined, true, true])
  })

  test('the signal of a clock that is given fires by that clock, and that of the machine by the machine', async () => {
    const clock = new ManualClock(0)
    const { signal } = new Deadline(20, { clock })
    const machines = new Deadline(20).signal
    await new Promise(resolve => machines.addEventListener('abort', resolve))
    expect(signal.aborted).toBe(false)
    clock.advance(20)
    expect(signal.aborted).toBe(true)
  })

  test('unless aborted: the step, its failure, or why not as soon as the signal fires, or has fired', async () => {
    const { signal } = new AbortController()
    const why = () => new Error('stopped')
    expect(await unlessAborted(signal, Promise.resolve(7), why)).toBe(7)
    await expect(unlessAborted(signal, Promise.reject(new Error('broken')), why)).rejects.toThrow('broken')
    const controller = new AbortController()
    const waiting = unlessAborted(controller.signal, never, why)
    controller.abort()
    await expect(waiting).rejects.toThrow('stopped')
    await expect(unlessAborted(controller.signal, never, why)).rejects.toThrow('stopped')
  })

  test('until: asks once at least, again every so often, and no more when the time is over', async () => {
    const clock = new ManualClock(0)
    let asked = 0
    const answer = new Deadline(100, { clock }).until(() => ++asked === 3 && 'yes', 10)
    for (let i = 0; i < 3; i++) {
      await settled()
      clock.advance(10)
    }
    expect([await answer, asked]).toEqual(['yes', 3])
    expect(await new Deadline(0, { clock }).until(() => ++asked < 0, 10)).toBeUndefined()
    expect(asked).toBe(4)
  })

  test('pause: a signal ends it, before and while it waits', async () => {
    const clock = new ManualClock(0)
    await pause(1_000, AbortSignal.abort(), clock)
    const controller = new AbortController()
    const waiting = pause(1_000, controller.signal, clock)
    controller.abort()
    await waiting
  })
})
