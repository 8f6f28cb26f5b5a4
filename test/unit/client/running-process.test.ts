import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, test } from 'vitest'
import { isRunning } from '../../../client/running-process.ts'

test('running process: this one and the first one run; no process has the id 0, or half an id', () => {
  expect(isRunning(process.pid)).toBe(true)
  expect(isRunning(1)).toBe(true)
  for (const pid of [0, -1, 1.5, 2 ** 30]) expect(isRunning(pid), String(pid)).toBe(false)
})

test('running process: one that has ended does not run, even if its parent has not asked how', async () => {
  // The shell becomes a program that never asks.
  const parent = spawn('sh', ['-c', 'sleep 0 & echo $!; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    const [line] = (await once(parent.stdout, 'data')) as [Buffer]
    const pid = Number(line.toString())
    await expect.poll(() => isRunning(pid), { timeout: 10_000 }).toBe(false)
  } finally {
    parent.kill()
    await once(parent, 'exit')
  }
})
