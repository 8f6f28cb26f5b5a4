/** `mote chain consenters` on a chain in memory, served as full nodes serve it. */
import { expect, test } from 'vitest'
import { operatorNames, serveDevnet } from '../../support/served-devnet.ts'
import type { TestChainOptions } from '../../support/test-chain.ts'

const twoOfThree: TestChainOptions = { operators: operatorNames.slice(1), threshold: 2 }
const names = (nodes: readonly { readonly name: string }[]) => nodes.map(({ name }) => name).sort()

test('chain consenters: shows who certifies, as text and as JSON', async () => {
  await using world = await serveDevnet()
  const text = await world.mote('chain', 'consenters')
  expect(text.code).toBe(0)
  expect(text.stdout).toMatch(/^consenters {2}full-\d, full-\d, full-\d \(majority: 2 of 3\)$/m)
  expect(text.stdout).toMatch(/^operators {3}operator; 1 must approve$/m)
  expect(text.stdout).toMatch(/^verified at height 1, term 1, /m)
  for (const args of [['--json'], ['show', '--json']]) {
    const answer = JSON.parse((await world.mote('chain', 'consenters', ...args)).stdout)
    expect(answer).toMatchObject({ policy: 'majority', quorum: 2, next: null, approvals: [], threshold: 1 })
    expect(names(answer.consenters)).toEqual(['full-1', 'full-2', 'full-3'])
    expect(answer).toMatchObject({ verified: true, height: 1 })
  }
})

test('chain consenters set: decides, and shows what is decided on until the handover', async () => {
  await using world = await serveDevnet()
  const { chain, mote } = world
  const { code, stdout } = await mote('chain', 'consenters', 'set', 'full-2,full-3,full-4', '--json')
  expect(code).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject({ decided: true, certifies: false, missingApprovals: 0 })
  const target = chain.ledger.parameters.nextConsenters!
  expect((await mote('chain', 'consenters')).stdout).toMatch(
    /^decided on {2}full-.*; the handover is to come$/m,
  )
  chain.handOver(target)
  const after = JSON.parse((await mote('chain', 'consenters', '--json')).stdout)
  expect(names(after.consenters)).toEqual(['full-2', 'full-3', 'full-4'])
  expect(after.next).toBeNull()
  const again = await mote('chain', 'consenters', 'set', 'full-4', 'full-3', 'full-2')
  expect(again.stdout).toMatch(/certify: nothing to do$/m)
})

test('chain consenters set: each operator signs with its own key, and is told what is missing', async () => {
  await using world = await serveDevnet(twoOfThree)
  const { chain, mote } = world
  const set = ['chain', 'consenters', 'set', 'full-1,full-2,full-3,full-4', '--policy', 'two-thirds']
  expect((await mote(...set)).stdout).toMatch(/approved of; 1 of 2 approvals are missing$/m)
  expect(chain.ledger.parameters.nextConsenters).toBeUndefined()
  const shown = (await mote('chain', 'consenters')).stdout
  expect(shown).toMatch(/^operator {5}yes {5}full-.*\(two-thirds: 3 of 4\)$/m)
  expect((await mote(...set, '--operator', 'operator-3')).stdout).toMatch(
    /decided on; the handover follows$/m,
  )
  expect(chain.ledger.parameters.nextConsenters?.policy).toBe('two-thirds')
  expect((await mote('chain', 'consenters')).stdout).toMatch(
    /^operator-3 {3}no: before the last change {2}full-/m,
  )
})

test('chain consenters set --wait: ends when they certify', async () => {
  await using world = await serveDevnet()
  const { chain, mote } = world
  const waiting = mote('chain', 'consenters', 'set', 'full-2,full-3,full-4', '--wait')
  while (!chain.ledger.parameters.nextConsenters) await chain.news(1_000)
  chain.handOver(chain.ledger.parameters.nextConsenters)
  const { code, stdout, notes } = await waiting
  expect(code, notes).toBe(0)
  expect(stdout).toMatch(/ certify$/m)
  expect(notes).toMatch(/^(decided at height 2; waiting for the handover\n)?$/)
})

test('chain consenters set --wait: at its deadline it says what is missing', async () => {
  await using world = await serveDevnet(twoOfThree)
  const { chain, mote } = world
  const set = ['chain', 'consenters', 'set', 'full-2,full-3,full-4', '--wait', '--timeout', '3']
  const undecided = await mote(...set)
  expect(undecided.code).toBe(124)
  expect(undecided.notes).toContain('waiting for 1 more of 2 approvals')
  expect(undecided.notes).toMatch(
    /mote: timeout: consenters: 1 of 2 approvals are missing; not yet of operator-\d, operator-\d$/m,
  )
  const decided = await mote(...set, '--operator', 'operator-2')
  expect(decided.code).toBe(124)
  expect(decided.notes).toMatch(/decided, but no handover is certified at height 3: full-4 does not answer$/m)
  expect(chain.ledger.parameters.nextConsenters).toBeDefined()
})

test('chain consenters set: refusals and their exit codes', async () => {
  await using world = await serveDevnet()
  const { chain, mote } = world
  const rows: readonly (readonly [readonly string[], number, string])[] = [
    [[], 2, 'nodes'],
    [['full-9'], 3, 'not-found'],
    [['0'.repeat(64)], 3, 'unknown-subject'],
    [['sensor'], 4, 'label-not-allowed'],
    [['full-1', '--policy', 'all'], 2, 'policy'],
    [['full-1,full-2', '--policy', 'two-thirds'], 2, 'usage: policy'],
    [['full-1', '--operator', 'nobody'], 3, 'key-not-found'],
    [['full-1', '--operator', 'operator-2'], 3, 'unknown-signer'],
    [['full-1', '--operator', 'sensor'], 4, 'not-authorised'],
  ]
  for (const [args, code, text] of rows) {
    const result = await mote('chain', 'consenters', 'set', ...args)
    expect(result.code, `${args.join(' ')}: ${result.notes}`).toBe(code)
    expect(result.notes).toContain(text)
    expect(result.stdout).toBe('')
  }
  expect(chain.ledger.parameters.version).toBe(1)
})
