/**
 * The devices of a devnet in one agent process, as its supervisor starts it (`mote devnet up --agents`).
 */
import { join } from 'node:path'
import type { Command } from 'commander'
import { localNamesOf } from './agent.ts'
import { currentKeys, openChain } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import type { Context } from './context.ts'
import { runProgram } from './run-program.ts'

export function agentsCommand(family: Command, add: AddCommand): void {
  add({
    parent: family,
    usage: 'agents',
    description: 'what `up --agents` runs: every device of the devnet in one agent process',
    lifetime: 'drains',
    hidden: true,
    action: agents,
  })
}

/** How often what the devices cost is said. */
const costEveryMs = 15_000

/** What this process took since it was last asked: memory that is resident, and time on a core. */
class Cost {
  #cpu = process.cpuUsage()
  #at = performance.now()

  text(): string {
    const { user, system } = process.cpuUsage(this.#cpu)
    const share = (user + system) / 10 / (performance.now() - this.#at)
    this.#cpu = process.cpuUsage()
    this.#at = performance.now()
    return `${Math.round(process.memoryUsage.rss() / 1024 / 1024)} MiB, ${share.toFixed(1)} % of a core`
  }
}

async function agents(context: Context): Promise<number> {
  const [{ startFleet }, { agentChain }] = await Promise.all([
    import('../mqtt-gateway/agent/agent-fleet.ts'),
    import('../mqtt-gateway/device/agent-chain.ts'),
  ])
  return runProgram(context, async signal => {
    const access = await openChain(context)
    const { client, description, directory, keys } = access
    const following = new AbortController()
    const run = client.follower.run(following.signal)
    try {
      const fleet = await startFleet({
        devices: await Promise.all(description.devices.map(({ name }) => keys.load(name))),
        chainOf: device => agentChain(client, device),
        reloadKeys: name => currentKeys(access, name),
        gateway: description.gateway.mqtt,
        directory: join(directory, 'devices'),
        trustTtlMs: description.trustTtlMs,
        address: { type: 'tcp', host: '127.0.0.1', port: 0 },
        names: localNamesOf(access),
        onEvent: (device, event) => {
          if ('reason' in event)
            context.output.note(`${device}: ${event.type}: ${event.reason.code}: ${event.reason.detail}`)
        },
        signal,
      })
      const { mqtt, connected } = fleet
      const cost = new Cost()
      const saying = setInterval(
        () =>
          context.output.note(
            `${fleet.connected} of ${description.devices.length} connected, ${cost.text()}`,
          ),
        costEveryMs,
      )
      const stop = async (): Promise<void> => {
        clearInterval(saying)
        following.abort()
        await Promise.all([fleet.stop(), run])
      }
      return {
        ready: {
          name: 'agents',
          devices: description.devices.length,
          connected,
          cpuSeconds: Math.round((process.cpuUsage().user + process.cpuUsage().system) / 1e5) / 10,
          mqtt,
          pid: process.pid,
        },
        stop,
      }
    } catch (error) {
      following.abort()
      await run
      throw error
    }
  })
}
