/** `mote node drain` stops the process that its node's directory names, whatever answers at the node's address. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startOfProcess } from '../../../client/running-process.ts'
import { readDescription } from '../../../devnet/layout.ts'
import { writeNodeConfig } from '../../../node/config.ts'
import { type ServedDevnet, serveDevnet } from '../../support/served-devnet.ts'

let devnet: ServedDevnet
let bystander: ChildProcess

beforeEach(async () => {
  devnet = await serveDevnet()
  bystander = spawn('sleep', ['60'])
  await once(bystander, 'spawn')
})
afterEach(async () => {
  bystander.kill('SIGKILL')
  await devnet[Symbol.asyncDispose]()
})

interface Case {
  /** The process id in the answer over HTTP. */
  readonly answered: number
  /** What the node's directory has. */
  readonly access?: object
}

async function drain({ answered, access }: Case) {
  const source = devnet.sources[0]!
  const status = await source.status()
  source.status = async () => ({ ...status, pid: answered })
  const description = (await readDescription(devnet.directory))!
  const { host, port } = description.nodes.find(({ name }) => name === source.name)!.api
  const file = join(devnet.directory, 'config.json')
  const config = {
    version: 1,
    label: 'full',
    genesis: 'genesis.json',
    data: 'data',
    key: 'key.json',
  } as const
  await writeNodeConfig(file, {
    ...config,
    name: status.name,
    chainId: status.chainId,
    api: { host, port },
    p2p: { host, port: 0 },
    peers: [],
    coordination: [],
  })
  mkdirSync(join(devnet.directory, 'data'))
  if (access) writeFileSync(join(devnet.directory, 'data', 'operator.json'), JSON.stringify(access))
  return devnet.mote('node', 'drain', '--config', file)
}

const token = '0'.repeat(64)
const runs = () => bystander.exitCode === null && bystander.signalCode === null

test('drain: the process of the directory is stopped, and its end waited for', async () => {
  const pid = bystander.pid!
  const access = { pid, start: startOfProcess(pid) ?? null, token }
  expect(await drain({ answered: pid, access })).toMatchObject({ code: 0 })
  await expect.poll(runs).toBe(false)
  expect(bystander.signalCode).toBe('SIGTERM')
})

test('drain: a process that only an answer over HTTP names is left alone', async () => {
  const answered = bystander.pid!
  const self = { pid: process.pid, start: startOfProcess(process.pid) ?? null, token }
  const { code, notes } = await drain({ answered, access: self })
  expect(code, notes).toBe(2)
  expect(notes).toContain(`expected process ${process.pid}`)
  expect(runs()).toBe(true)
})

test('drain: where no node has started nothing is stopped', async () => {
  const { code, notes } = await drain({ answered: bystander.pid! })
  expect(code, notes).toBe(3)
  expect(runs()).toBe(true)
})

test.runIf(existsSync('/proc/self/stat'))(
  'drain: a later process with the id of the node is left alone',
  async () => {
    const pid = bystander.pid!
    const { code, notes } = await drain({ answered: pid, access: { pid, start: '1', token } })
    expect(code, notes).toBe(3)
    expect(runs()).toBe(true)
  },
)
