/** A gateway's recorder is killed with SIGKILL between what it has accepted and what became of it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type ForeignProgram, startForeignProgram } from '../support/foreign-program.ts'
import { recordedOn, recorderChain } from '../support/recorder-world.ts'
import { serveChain } from '../support/served-chain.ts'
import { repositoryRoot } from '../support/source-files.ts'

const count = 60

/** What a process has printed of one kind: transactions by text. */
function printed({ stdout }: Pick<ForeignProgram, 'stdout'>, kind: string): Map<string, string> {
  const lines = stdout.split('\n').slice(0, -1)
  const words = lines.map(line => line.split(' ')).filter(([first]) => first === kind)
  return new Map(words.map(([, text = '', id = '']) => [text, id]))
}

test('recorder process: killed between accept and outcome, twice, each message is on the chain exactly once, under the id it had first', async () => {
  const chain = recorderChain()
  const directory = await mkdtemp(join(tmpdir(), 'mote-recorder-'))
  const sources = [chain.source('one'), chain.source('two')]
  const served = await Promise.all(sources.map(serveChain))
  // Some come through at once; what comes later waits, as long as the gate is closed.
  const gate = Promise.withResolvers<void>()
  let submitted = 0
  for (const source of sources) {
    const submit = source.submit.bind(source)
    source.submit = async bytes => {
      submitted += 1
      if (submitted > 20) await gate.promise
      return submit(bytes)
    }
  }
  const start = () =>
    startForeignProgram('env', [
      `NODE_COMPILE_CACHE=${join(directory, 'compiled')}`,
      process.execPath,
      join(repositoryRoot, 'test/support/recorder-process.ts'),
      join(directory, 'data'),
      String(count),
      ...served.map(({ host, port }) => `http://${host}:${port}`),
    ])
  const runs: ForeignProgram[] = []
  const killWhen = async (isTime: (run: ForeignProgram) => boolean) => {
    const run = start()
    runs.push(run)
    await expect.poll(() => isTime(run) || run.stderr, { timeout: 30_000, interval: 1 }).toBe(true)
    run.stop('SIGKILL')
    await run.ended
  }
  try {
    await killWhen(run => printed(run, 'accepted').size === count && submitted > 20)
    expect(printed(runs[0]!, 'certified').size).toBeLessThan(count)
    gate.resolve()
    await killWhen(run => printed(run, 'certified').size > count / 4)
    const last = start()
    runs.push(last)
    expect(await last.ended).toMatchObject({ code: 0 })
    expect(recordedOn(chain).toSorted()).toEqual(
      Array.from({ length: count }, (_, i) => `m${i + 1}`).toSorted(),
    )
    const certified = printed(last, 'certified')
    expect(certified.size).toBe(count)
    for (const run of runs)
      for (const [text, id] of printed(run, 'accepted')) expect(certified.get(text)).toBe(id)
  } finally {
    for (const run of runs) run.stop('SIGKILL')
    await Promise.all(served.map(server => server[Symbol.asyncDispose]()))
    await rm(directory, { recursive: true, force: true })
  }
})
