/** Rights: which filters they may name, what a filter covers, and each refusal of the transaction that gives them. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decode, encode } from '../../../chain/codec.ts'
import { maxRightsFilterBytes, maxRightsFilters } from '../../../chain/limits.ts'
import { rightsCodec, stateKeyOf } from '../../../chain/records.ts'
import { covers, isPlainFilter, isTopicFilter, type RightsRecord } from '../../../chain/rights.ts'
import { get } from '../../../chain/state-tree.ts'
import type { RightsBody } from '../../../chain/transaction.ts'
import {
  type Actor,
  devices,
  newcomer,
  operator,
  SampleLedger,
  secondOperator,
  withLeaf,
} from './sample-ledger.ts'

const [device, other] = devices as [Actor, Actor]

function body(parts: Partial<RightsBody> = {}): RightsBody {
  return {
    type: 'identity.rights',
    subject: device.id,
    expectedVersion: 0,
    publish: ['plant/hall-3/#'],
    subscribe: ['plant/#'],
    observe: false,
    gateway: false,
    ...parts,
  }
}

function rightsOf({ ledger }: SampleLedger, { id }: Actor): RightsRecord | undefined {
  const value = get(ledger.tree, stateKeyOf.rights(id))
  if (!value) return undefined
  const decoded = decode(rightsCodec, value)
  if (!decoded.ok) throw new Error(decoded.error.detail)
  return decoded.value
}

describe('filters', () => {
  test.each([
    ['plant/#', true],
    ['plant/+/alarm', true],
    ['plant', true],
    ['plant//x', true],
    ['motes/#', true],
    ['', false],
    ['#', false],
    ['+/alarm', false],
    ['/plant', false],
    ['mote', false],
    ['mote/1/to/#', false],
    ['$SYS/#', false],
    ['$share/group/plant/#', false],
    ['plant/#/alarm', false],
    ['plant#', false],
    ['plant/a+', false],
    ['plant/ä', false],
    ['plant/\u0000', false],
    [`plant/${'x'.repeat(maxRightsFilterBytes)}`, false],
  ])('a plain filter: %j is one: %s', (filter, plain) => {
    expect(isPlainFilter(filter)).toBe(plain)
  })

  test.each([
    ['a/#', 'a', true],
    ['a/#', 'a/b/c', true],
    ['a/#', 'a/#', true],
    ['a/#', 'a/+/c', true],
    ['a/+', 'a/b', true],
    ['a/+', 'a/+', true],
    ['a/+', 'a/', true],
    ['a/+', 'a', false],
    ['a/+', 'a/b/c', false],
    ['a/+', 'a/#', false],
    ['a/b', 'a/+', false],
    ['a/b/#', 'a/#', false],
    ['a/+/#', 'a/#', false],
    ['a/#', '#', false],
    ['a/#', '+/b', false],
    ['a/#', 'ab', false],
  ])('a grant of %s covers %s: %s', (granted, asked, covered) => {
    expect(covers(granted, asked)).toBe(covered)
  })

  test('what a grant covers matches no topic that the grant does not match', () => {
    const level = fc.constantFrom('a', 'b', '')
    const topic = fc.array(level, { minLength: 1, maxLength: 4 }).map(levels => levels.join('/'))
    const filter = fc
      .tuple(
        fc.array(fc.oneof(level, fc.constant('+')), { minLength: 1, maxLength: 3 }),
        fc.constantFrom([], ['#']),
      )
      .map(([levels, end]) => [...levels, ...end].join('/'))
      .filter(isTopicFilter)
    fc.assert(
      fc.property(filter, filter, topic, (granted, asked, name) => {
        if (covers(granted, asked) && covers(asked, name)) expect(covers(granted, name)).toBe(true)
      }),
      { numRuns: 2000 },
    )
  })
})

describe('identity.rights', () => {
  test('nobody has rights before an authority gives them; the newest ones replace the others', () => {
    const chain = new SampleLedger()
    expect(rightsOf(chain, device)).toBeUndefined()
    expect(chain.run(operator, body())).toBe('ok')
    expect(rightsOf(chain, device)).toMatchObject({ version: 1, publish: ['plant/hall-3/#'], observe: false })
    expect(
      chain.run(
        secondOperator,
        body({ expectedVersion: 1, publish: [], subscribe: [], observe: true, gateway: true }),
      ),
    ).toBe('ok')
    expect(rightsOf(chain, device)).toMatchObject({
      version: 2,
      publish: [],
      subscribe: [],
      observe: true,
      gateway: true,
    })
    expect(rightsOf(chain, other)).toBeUndefined()
  })

  test("edits by the subject are in no authority's way, and leave its identity as it is", () => {
    const chain = new SampleLedger()
    const before = chain.identity(device.id)
    expect(chain.run(operator, body())).toBe('ok')
    expect(chain.identity(device.id)).toEqual(before)
    const edited = withLeaf(chain, stateKeyOf.rights(device.id), rightsCodec, {
      ...(rightsOf(chain, device) as RightsRecord),
      version: 0xffff_ffff - 2 ** 20,
    })
    expect(edited.run(operator, body({ expectedVersion: 0xffff_ffff - 2 ** 20 }))).toBe('limit-exceeded')
  })

  test('refuses a subject that is unknown or revoked, and another version than the rights have', () => {
    const chain = new SampleLedger()
    expect(chain.run(operator, body({ subject: newcomer.id }))).toBe('unknown-subject')
    expect(chain.run(operator, body({ expectedVersion: 1 }))).toBe('version-conflict')
    expect(chain.run(operator, body())).toBe('ok')
    expect(chain.run(operator, body())).toBe('version-conflict')
    expect(chain.suspend(other)).toBe('ok')
    expect(chain.run(operator, body({ subject: other.id }))).toBe('ok')
    expect(chain.revoke(device)).toBe('ok')
    expect(chain.run(operator, body({ expectedVersion: 1 }))).toBe('invalid-state')
  })

  test('filters are few, in order and plain, or the transaction is malformed', () => {
    const record = { ...body(), id: device.id, version: 1, updatedAt: 1 } as unknown as RightsRecord
    const many = Array.from({ length: maxRightsFilters }, (_, i) => `a/${String.fromCharCode(97 + i)}`)
    const decodes = (publish: readonly string[]) =>
      decode(rightsCodec, encode(rightsCodec, { ...record, publish })).ok
    expect(decodes(many)).toBe(true)
    expect(() => decodes([...many, 'b'])).toThrow()
    expect(decodes(['b', 'a'])).toBe(false)
    expect(decodes(['a', 'a'])).toBe(false)
    expect(decodes(['mote/#'])).toBe(false)
  })
})
