/** The decision log on disk: what an auditor's tools read. */
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { type DecisionLine, fileDecisionLog } from '../../../mqtt-gateway/protocol/decision-log.ts'

const line: DecisionLine = {
  id: 'ab'.repeat(32),
  event: 'message',
  sender: '11'.repeat(32),
  recipient: '22'.repeat(32),
  topic: 'mote/1/send/x',
  verdict: 'Error',
  code: 'recipient-key-mismatch',
  reason: 'altered "key"\n',
  mismatch: null,
  height: 7,
  ageMs: 12,
}

test('decision log: one JSON object per line, with the time, readable by its owner alone', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'mote-decisions-'))
  try {
    const log = await fileDecisionLog(directory, pino({ level: 'silent' }))
    log.write(line)
    log.write({ ...line, verdict: 'Check', code: null })
    await log.close()
    const file = join(directory, 'decisions.1.log')
    const lines = (await readFile(file, 'utf8')).trimEnd().split('\n')
    const [first, second] = lines.map(text => JSON.parse(text) as Record<string, unknown>)
    expect(lines).toHaveLength(2)
    expect(first).toEqual({ ...line, time: expect.stringMatching(/^\d{4}-.+Z$/) })
    expect(second).toMatchObject({ verdict: 'Check', code: null })
    expect((await stat(file)).mode & 0o777).toBe(0o600)
  } finally {
    await rm(directory, { recursive: true })
  }
})
