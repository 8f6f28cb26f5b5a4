/**
 * `npm run test:plain [-- --clients N --messages N]`: a devnet whose devices all connect as plain MQTT 3.1.1 clients and publish registry
 * and action messages by QoS 2. While they do, the leader is killed, and then the gateway, which is started again. Nothing that was
 * acknowledged may be missing on the chain, and nothing may be there twice. Exit 1 if that does not hold; the devnet is kept then.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runWithOptions } from '../bench/arguments.ts'
import type { ContractAddress } from '../chain/brands.ts'
import { exitCodes } from '../chain/errors.ts'
import { readDescription } from '../devnet/layout.ts'
import { runMote } from './support/mote-command.ts'
import { type PlainClientsReport, runPlainClients } from './support/plain-clients-run.ts'

const options = {
  clients: { default: 1_000, meaning: 'plain clients; at most 1,000' },
  messages: { default: 6, meaning: 'messages of each, half of them with an action' },
}

const withinMs = 600_000

interface Status {
  readonly nodes: readonly { readonly name: string; readonly role: string }[]
}

function holds({
  published,
  acknowledged,
  lost,
  twice,
  actions,
  runs,
  decisions,
}: PlainClientsReport): boolean {
  return acknowledged === published && lost + twice === 0 && runs === actions && decisions === actions
}

async function runIn(directory: string, clients: number, messages: number): Promise<boolean> {
  const mote = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await runMote(args, { MOTE_DIR: directory })
    if (code !== exitCodes.ok) throw new Error(`mote ${args.join(' ')}: exit ${code}: ${stderr}`)
    return stdout
  }
  const size = ['--devices', `${clients}`, '--lightweight', '0', '--seed', 'plain-clients']
  const mapped = ['--plain-in', 'forest/#', '--plain-out', 'fire/#']
  await mote('devnet', 'up', '--detach', ...size, ...mapped, '--timeout', '600')
  try {
    const deployed = await mote('contract', 'deploy', 'examples/fire-index.json', '--json')
    const { address: contract } = JSON.parse(deployed) as { address: ContractAddress }
    const description = await readDescription(directory)
    if (!description) throw new Error('the devnet went away')
    const killLeader = async () => {
      const { nodes } = JSON.parse(await mote('devnet', 'status', '--json')) as Status
      return mote('chaos', 'kill', nodes.find(({ role }) => role === 'leader')?.name ?? '')
    }
    const killGateway = async () => {
      await mote('chaos', 'kill', 'gateway')
      return mote('chaos', 'restart', 'gateway', '--timeout', '180')
    }
    const faults = [
      { what: 'the leader is killed', run: killLeader },
      { what: 'the gateway is killed, and started again', run: killGateway },
    ]
    const report = await runPlainClients({
      directory,
      description,
      contract,
      messages,
      qos: [2],
      faults,
      withinMs,
    })
    process.stdout.write(`${JSON.stringify(report)}\n`)
    return holds(report)
  } finally {
    await mote('devnet', 'down')
  }
}

process.exitCode = await runWithOptions(process.argv.slice(2), {
  command: 'npm run test:plain --',
  meaning: 'plain MQTT clients, and what is killed',
  options,
  run: async ({ clients, messages }) => {
    const root = mkdtempSync(join(tmpdir(), 'mote-plain-'))
    const held = await runIn(join(root, 'net'), clients, messages).catch((error: Error) => {
      process.stderr.write(`${error.message}\n`)
      return false
    })
    if (held) rmSync(root, { recursive: true, force: true })
    else process.stderr.write(`failed; logs and data are kept in ${root}\n`)
    return held ? exitCodes.ok : exitCodes.failure
  },
})
