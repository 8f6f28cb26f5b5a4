/**
 * `npm run test:fleet [-- --clients N --messages N --broker NAME]`: a devnet with so many devices, all connected and sending to each other, to
 * a group and to an open topic. With 100 messages in flight the leader is killed, and in a second round the gateway. Nothing may be
 * lost or come twice, and what one device sends to another comes in order. Exit 1 if that does not hold; the devnet is kept then.
 *
 * The gateway is killed beside a Mosquitto only: an embedded broker is the gateway, and what it had given to a socket dies with it.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runWithOptions } from '../bench/arguments.ts'
import type { GroupId } from '../chain/brands.ts'
import { exitCodes } from '../chain/errors.ts'
import { readDescription } from '../devnet/layout.ts'
import { type FleetReport, runFleet } from './support/fleet-run.ts'
import { runMote } from './support/mote-command.ts'

const options = {
  clients: { default: 1_000, meaning: 'devices; at least 100, at most 1,000' },
  messages: { default: 3, meaning: 'messages of each device in each round' },
  broker: { default: 'both', meaning: 'embedded, mosquitto, or both' },
}

const inFlightMin = 100
const roundMs = 300_000

/** Runs a command of `mote` to its end. Throws unless it succeeds. */
async function mote(directory: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runMote(args, { MOTE_DIR: directory })
  if (code !== exitCodes.ok) throw new Error(`mote ${args.join(' ')}: exit ${code}: ${stderr}`)
  return stdout
}

interface Processes {
  readonly nodes: readonly { readonly name: string; readonly role: string; readonly pid: number }[]
  readonly gateway: { readonly pid: number }
}

async function processesOf(directory: string): Promise<Processes> {
  return JSON.parse(await mote(directory, 'devnet', 'status', '--json')) as Processes
}

function holds({ lost, twice, outOfOrder, dropped, inFlight }: FleetReport): boolean {
  return lost + twice + outOfOrder + dropped.length === 0 && inFlight >= inFlightMin
}

/** The rounds on one kind of broker. True if all held. */
async function runOn(broker: string, directory: string, clients: number, messages: number): Promise<boolean> {
  const size = ['--devices', `${clients}`, '--lightweight', '0', '--broker', broker, '--seed', 'fleet']
  await mote(directory, 'devnet', 'up', '--detach', ...size, '--timeout', '600')
  try {
    await mote(directory, 'group', 'create', 'b', '1114', '--from', '1113', '--open')
    const description = await readDescription(directory)
    if (!description) throw new Error('the devnet went away')
    const { id } = JSON.parse(await mote(directory, 'group', 'show', 'b', '--json')) as { id: GroupId }
    const plan = { directory, description, fanOut: 1, messages, topic: id, withinMs: roundMs }
    const { nodes, gateway } = await processesOf(directory)
    const leader = nodes.find(({ role }) => role === 'leader')
    if (!leader) throw new Error('no leader')
    const rounds = [
      { what: `leader ${leader.name} killed`, victim: leader.pid },
      {
        what: 'gateway killed, and started again',
        victim: gateway.pid,
        afterwards: () => mote(directory, 'chaos', 'restart', 'gateway', '--timeout', '180'),
      },
    ]
    let allHold = true
    for (const { what, ...kill } of broker === 'mosquitto' ? rounds : rounds.slice(0, 1)) {
      const report = await runFleet({ ...plan, ...kill })
      process.stdout.write(`${broker}: ${clients} devices, ${what}: ${JSON.stringify(report)}\n`)
      allHold &&= holds(report)
    }
    return allHold
  } finally {
    await mote(directory, 'devnet', 'down')
  }
}

process.exitCode = await runWithOptions(process.argv.slice(2), {
  command: 'npm run test:fleet --',
  meaning: 'a thousand devices, and what is killed',
  options,
  run: async ({ clients, messages, broker }) => {
    const brokers = broker === 'both' ? ['embedded', 'mosquitto'] : [broker]
    for (const each of brokers) {
      const root = mkdtempSync(join(tmpdir(), 'mote-fleet-'))
      const held = await runOn(each, join(root, 'net'), clients, messages).catch((error: Error) => {
        process.stderr.write(`${error.message}\n`)
        return false
      })
      if (held) rmSync(root, { recursive: true, force: true })
      else {
        process.stderr.write(`failed; logs and data are kept in ${root}\n`)
        return exitCodes.failure
      }
    }
    return exitCodes.ok
  },
})
