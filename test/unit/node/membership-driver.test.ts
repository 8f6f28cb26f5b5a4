import { describe, expect, test } from 'vitest'
import { DeviceId, Milliseconds } from '../../../chain/brands.ts'
import { consenterSet, type QuorumPolicy } from '../../../chain/consenters.ts'
import type { PublicKey } from '../../../chain/keys.ts'
import type { Ledger } from '../../../chain/ledger.ts'
import {
  MembershipDriver,
  type MembershipView,
  maxLearners,
  membershipContext,
  nextStep,
} from '../../../node/replica/membership-driver.ts'

const id = (letter: string) => DeviceId(letter.repeat(64))
const ids = (letters: string) => [...letters].map(id)
const setOf = (letters: string, policy: QuorumPolicy = 'majority') =>
  consenterSet(
    ids(letters).map(device => ({
      id: device,
      key: { suite: 'ed25519', bytes: new Uint8Array(32) } as PublicKey,
    })),
    policy,
  )

/** `voters/outgoing/learners`, the consenters, and the decided set, as letters. */
function view(
  members: string,
  consenters: string,
  next = '',
  more: Partial<MembershipView> = {},
): MembershipView {
  const [voters = '', votersOutgoing = '', learners = ''] = members.split('/').map(part => part)
  return {
    configuration: { voters: ids(voters), votersOutgoing: ids(votersOutgoing), learners: ids(learners) },
    consenters: setOf(consenters),
    nextConsenters: next === '' ? undefined : setOf(next),
    isCertified: next !== '',
    inStep: () => true,
    handoverLacks: () => undefined,
    fullNodes: new Set(ids('abcdef')),
    ...more,
  }
}

const letters = (list: readonly string[]) => list.map(each => each[0]).join('')

describe('membership: the next step follows from what is applied', () => {
  test.each([
    ['nothing to do', view('abc//def', 'abc'), undefined],
    ['full nodes become learners', view('abc', 'abc'), 'change abc/def'],
    [
      'a learner that is no full node any more goes',
      view('abc//def', 'abc', '', { fullNodes: new Set(ids('abcde')) }),
      'change abc/de',
    ],
    ['decided: who is to vote learns first', view('abc//ef', 'abc', 'abd'), 'change abc/def'],
    ['decided: joint consensus', view('abc//def', 'abc', 'abd'), 'change abd/cef'],
    [
      'decided, and not certified yet: not before',
      view('abc//def', 'abc', 'abd', { isCertified: false }),
      undefined,
    ],
    ['joint: the handover block', view('abd/abc/cef', 'abc', 'abd'), 'handover abd'],
    [
      'handed over, not certified: wait',
      view('abd/abc/cef', 'abd', '', { handoverLacks: () => 'signatures' }),
      'wait: signatures',
    ],
    [
      'two-thirds of the new set could not sign: wait, and the way back stays open',
      view('abcde/abc/f', 'abc', 'abcde', {
        nextConsenters: setOf('abcde', 'two-thirds'),
        inStep: device => device !== id('d') && device !== id('e'),
      }),
      'wait: handover: expected 4 of 5 new consenters in step, got 3',
    ],
    [
      'a stricter policy that the present set could not keep: wait',
      view('abcd//ef', 'abcd', '', {
        nextConsenters: setOf('abcd', 'two-thirds'),
        inStep: device => device === id('a') || device === id('b'),
      }),
      'wait: handover: expected 3 of 4 present consenters in step, got 2',
    ],
    ['certified: leave', view('abd/abc/cef', 'abd'), 'leave'],
    ['handed over and decided again: leave first', view('abd/abc/cef', 'abd', 'abe'), 'leave'],
    ['decided otherwise before the handover: back', view('abd/abc/cef', 'abc', 'abe'), 'abandon'],
    ['taken back before the handover: back', view('abd/abc/cef', 'abc'), 'abandon'],
    [
      'only keys or policy change: no joint consensus is needed',
      view('abc//def', 'abc', 'abc'),
      'handover abc',
    ],
  ])('%s', (_name, given, expected) => {
    const step = nextStep(given)
    const described =
      step &&
      (step.type === 'change'
        ? `change ${letters(step.voters)}/${letters(step.learners)}`
        : step.type === 'handover'
          ? `handover ${letters(step.to.consenters.map(each => each.id))}`
          : step.type === 'wait'
            ? `wait: ${step.reason.replace(/ \(.*/, '')}`
            : step.type)
    expect(described).toBe(expected)
  })

  test('learners are bounded', () => {
    const many = Array.from({ length: 200 }, (_, i) => DeviceId(i.toString(16).padStart(64, '0')))
    const step = nextStep(view('abc', 'abc', '', { fullNodes: new Set(many) }))
    expect(step).toMatchObject({ type: 'change', learners: { length: maxLearners } })
  })
})

describe('membership: steps are made one at a time', () => {
  const now = Milliseconds(0)
  const driven = (given: MembershipView) => {
    const logged: object[] = []
    const ledger = { parameters: given } as unknown as Ledger
    const driver = new MembershipDriver({
      chain: { ledger, certified: ledger },
      handovers: { lacks: given.handoverLacks },
      fullMembers: { ids: given.fullNodes },
      log: detail => logged.push(detail),
    })
    const { configuration, inStep } = given
    const next = (applied: number, isSettled = true) =>
      driver.next({ applied, isSettled: () => isSettled, configuration, time: now, inStep })
    return { driver, logged, next }
  }
  const pending = view('abc//def', 'abc', 'abd')

  test('not before everything of earlier leaders is applied, and not by a follower', () => {
    const { driver, next } = driven(pending)
    expect(next(9)).toBeUndefined()
    driver.leads(10)
    expect(next(9)).toBeUndefined()
    expect(next(10)).toMatchObject({ type: 'change-membership', context: membershipContext })
    driver.follows()
    expect(next(20)).toBeUndefined()
  })

  test('not before the last one is applied', () => {
    const { driver, next } = driven(pending)
    driver.leads(10)
    expect(next(10)).toBeDefined()
    expect(next(10)).toBe('hold')
    driver.proposed(12)
    expect(next(11)).toBe('hold')
    expect(next(12)).toMatchObject({ type: 'change-membership' })
  })

  test('not before the whole log is applied, and nothing is put into it meanwhile', () => {
    const { driver, next } = driven(pending)
    driver.leads(10)
    expect(next(10, false)).toBe('hold')
    expect(next(11)).toMatchObject({ type: 'change-membership' })
  })

  test('a refusal is told once, and tried again some ticks later', () => {
    const { driver, next, logged } = driven(pending)
    driver.leads(10)
    for (let tick = 0; tick < 3; tick++) {
      expect(next(10)).toBeDefined()
      const context = membershipContext
      driver.refused({
        type: 'refused',
        context,
        reason: 'would-lose-quorum',
        detail: 'two are away',
        leader: null,
      })
      expect(next(10)).toBeUndefined()
      expect(driver.refusal).toBe('would-lose-quorum: two are away')
      for (let i = 0; i < 4; i++) driver.tick()
    }
    expect(logged).toHaveLength(1)
  })

  test.each<[string, string, Partial<Record<'members' | 'state' | 'certified' | 'full', MembershipView>>]>([
    ['the configuration, by a cut of the log', 'abandon', { members: view('abd/abc/cef', 'abc') }],
    ['a decision that is certified already', 'change', { state: view('abc//def', 'abc', 'abd') }],
    ['the certificate of a decision', 'change', { certified: view('abc//def', 'abc', 'abd') }],
    ['the full nodes', 'change', { full: view('abc//def', 'abc', '', { fullNodes: new Set(ids('abcde')) }) }],
  ])('what was done is looked at again after another one of: %s', (_what, step, now) => {
    const done = view('abc//def', 'abc')
    // All but what changes is as it will be.
    const decided = view('abc//def', 'abc', 'abd')
    const state = now.certified ? decided : done
    const certified = now.state ? decided : done
    const seen = { members: done, state, certified, full: done }
    const driver = new MembershipDriver({
      chain: {
        get ledger() {
          return { parameters: seen.state } as unknown as Ledger
        },
        get certified() {
          return { parameters: seen.certified } as unknown as Ledger
        },
      },
      handovers: { lacks: () => undefined },
      fullMembers: {
        get ids() {
          return seen.full.fullNodes
        },
      },
      log: () => {},
    })
    const next = () => {
      const { configuration, inStep } = seen.members
      return driver.next({ applied: 10, isSettled: () => true, configuration, time: Milliseconds(0), inStep })
    }
    driver.leads(10)
    expect([next(), next()]).toEqual([undefined, undefined])
    Object.assign(seen, now)
    expect(next()).toMatchObject(
      step === 'change' ? { type: 'change-membership' } : { type: 'leave-joint', abandon: true },
    )
  })
})
