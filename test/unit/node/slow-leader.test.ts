import { expect, test } from 'vitest'
import { groupIdOf } from '../../../chain/records.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const [owner, member] = [sampleIdentity('device-1'), sampleIdentity('device-2')]

/** A leader whose own disk is behind: the other two commit, execute and certify before it has executed anything. */
async function behind() {
  const world = new LedgerWorld(3, [owner, member])
  await world.startCertified()
  const leader = world.leader!
  const { promise, resolve } = Promise.withResolvers<void>()
  world.disk(leader).hangsUntil = promise
  const answers: Record<string, string> = {}
  const submit = (through: number, name: string, bytes: Uint8Array) =>
    void world
      .node(through)
      .submission.submit(bytes, 'certified')
      .then(({ status, code }) => {
        answers[name] = `${status} ${code ?? ''}`.trim()
      })
  const follower = (leader + 1) % 3
  submit(follower, 'group', world.group(owner, 'fleet'))
  await world.until('the group, at a follower', () => answers['group'] !== undefined, 1_500)
  expect(answers).toEqual({ group: 'certified' })
  const release = () => {
    world.disk(leader).hangsUntil = undefined
    resolve()
  }
  return { world, leader, follower, submit, answers, release }
}

const add = (world: LedgerWorld, group = groupIdOf(owner.id, 'fleet')) =>
  world.sign(
    owner,
    { type: 'group.add', group, membershipVersion: 1, members: [member.id] },
    {
      nonce: 9,
    },
  )

test.each(['a follower', 'the leader'])(
  'what a client has heard of counts at %s, also before the leader has executed it',
  async where => {
    const { world, leader, follower, submit, answers, release } = await behind()
    submit(where === 'the leader' ? leader : follower, 'add', add(world))
    await world.run(300)
    expect(answers['add'], 'no judgement yet').toBeUndefined()
    release()
    await world.until('the answer', () => answers['add'] !== undefined)
    expect(answers['add']).toBe('certified')
  },
)

test('what nobody has heard of is refused as soon as the leader has caught up', async () => {
  const { world, leader, submit, answers, release } = await behind()
  submit(leader, 'add', add(world, groupIdOf(owner.id, 'no-such-group')))
  await world.run(300)
  expect(answers['add']).toBeUndefined()
  release()
  await world.until('the answer', () => answers['add'] !== undefined, 1_000)
  expect(answers['add']).toBe('refused unknown-subject')
})
