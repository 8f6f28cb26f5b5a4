import { expect, test } from 'vitest'
import { OrderedQueue } from '../../../client/ordered-queue.ts'

test('ordered queue: a step begins when the one before it has ended, however it ended', async () => {
  const queue = new OrderedQueue()
  const ran: string[] = []
  const first = Promise.withResolvers<void>()
  const failing = queue.run(async () => {
    ran.push('first begins')
    await first.promise
    ran.push('first ends')
    throw new Error('failed')
  })
  const second = queue.run(async () => {
    ran.push('second')
    return 2
  })
  expect(queue.length).toBe(2)
  await new Promise(resolve => setImmediate(resolve))
  expect(ran).toEqual(['first begins'])
  first.resolve()
  await expect(failing).rejects.toThrow('failed')
  expect(await second).toBe(2)
  await queue.idle()
  expect([queue.length, ...ran]).toEqual([0, 'first begins', 'first ends', 'second'])
})
