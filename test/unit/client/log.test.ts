import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { lockDirectory } from '../../../client/directory-lock.ts'
import { openLog } from '../../../client/log.ts'
import { SecretBytes } from '../../../client/secret-bytes.ts'
import { readSourceFiles } from '../../support/source-files.ts'

let directory = ''
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'mote-log-'))
})
afterEach(() => rm(directory, { recursive: true }))

test('log: lines are JSON with time, level and name, and carry no secret', async () => {
  const { log, close } = await openLog({
    level: 'info',
    file: join(directory, 'logs', 'node.log'),
    name: 'full-1',
  })
  log.debug('not written')
  log.info(
    { seed: 'deadbeef', keys: { password: 'hunter2', seed: new SecretBytes(new Uint8Array(32).fill(7)) } },
    'started',
  )
  close()
  const [file] = await readdir(join(directory, 'logs'))
  const text = await readFile(join(directory, 'logs', file!), 'utf8')
  expect(text).not.toMatch(/deadbeef|hunter2|0707/)
  expect(JSON.parse(text)).toMatchObject({
    level: 'info',
    name: 'full-1',
    message: 'started',
    seed: '[secret]',
    keys: { password: '[secret]', seed: '[secret]' },
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
  })
})

test('log: nodes and gateways open theirs here, with one list of what is struck out', () => {
  const opened = readSourceFiles().filter(({ folder, text }) => folder !== 'test' && /\bpino\(/.test(text))
  expect(opened.map(({ path }) => path)).toEqual(['client/log.ts'])
  const users = readSourceFiles().filter(({ text }) => /await openLog\(/.test(text))
  expect(users.map(({ path }) => path)).toEqual(
    expect.arrayContaining(['mqtt-gateway/main.ts', 'node/main.ts']),
  )
})

test('directory lock: a second holder is refused until the first lets go', async () => {
  const lock = await lockDirectory(directory)
  await expect(lockDirectory(directory)).rejects.toMatchObject({
    code: 'in-use',
    detail: expect.stringContaining(`held by process ${process.pid}`),
  })
  await lock.release()
  await (await lockDirectory(directory)).release()
})
