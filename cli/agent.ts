/**
 * `mote device agent NAME`: the agent of a device in the foreground, beside an application that speaks plain MQTT or CoAP on
 * this machine.
 */
import { join } from 'node:path'
import type { Command } from 'commander'
import type { DeviceId, GroupId } from '../chain/brands.ts'
import type { ChainAccess } from '../devnet/access.ts'
import { currentKeys, deviceNameOf, openChainUnsynced, readGroupNames, requireGroup } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import type { Context } from './context.ts'
import { type GatewayChoice, gatewayOf, gatewayOptions } from './gateway-option.ts'
import { runProgram } from './run-program.ts'

type AgentEvent = import('../mqtt-gateway/agent/agent-process.ts').AgentEvent
type RunningAgent = import('../mqtt-gateway/agent/agent-process.ts').RunningAgent
type DecisionLine = import('../mqtt-gateway/protocol/decision-log.ts').DecisionLine
type LocalNames = import('../mqtt-gateway/agent/local-routes.ts').LocalNames
type LocalRoutes = import('../mqtt-gateway/agent/local-routes.ts').LocalRoutes

export function agentCommand(family: Command, add: AddCommand): void {
  add<AgentOptions>({
    parent: family,
    usage: 'agent <name>',
    description:
      'run the agent of a device until SIGTERM or Ctrl-C: plain MQTT and CoAP for an application on this machine, sealed messages to the network',
    options: [
      {
        flags: '--config <file>',
        description: 'ports, routes and formats (docs/OPERATIONS.md); without it all by name',
      },
      ...gatewayOptions,
    ],
    exits: { 1: 'failed; in-use: another process holds the queues of this device' },
    lifetime: 'drains',
    action: (context, [name = ''], options) => agent(context, name, options),
  })
}

interface AgentOptions extends GatewayChoice {
  readonly config?: string
}

/** How often rotated keys that nothing comes for any more are looked for. */
const eraseEveryMs = 60 * 60_000

async function agent(context: Context, name: string, options: AgentOptions): Promise<number> {
  const [{ startAgent }, { readAgentConfig, standardAgentConfig }, { agentChain }] = await Promise.all([
    import('../mqtt-gateway/agent/agent-process.ts'),
    import('../mqtt-gateway/agent/agent-config.ts'),
    import('../mqtt-gateway/device/agent-chain.ts'),
  ])
  const { config: configFile } = options
  const config = configFile === undefined ? standardAgentConfig : await readAgentConfig(configFile)
  const access = await openChainUnsynced(context)
  const keys = await access.keys.load(name)
  const { client, description, directory } = access
  const gateway = await gatewayOf(access, options)
  return runProgram(context, async () => {
    const following = new AbortController()
    const run = client.follower.run(following.signal)
    try {
      const running = await startAgent({
        client: {
          keys,
          chain: agentChain(client, keys),
          gateway,
          stateDirectory: join(directory, 'devices', keys.name),
          trustTtlMs: description.trustTtlMs,
          prefetches: true,
          onDecision: line => logDecision(join(directory, 'devices', keys.name), line),
          identity: async () => {
            const current = await currentKeys(access, name)
            return { keys: current, chain: agentChain(client, current) }
          },
        },
        config,
        names: localNamesOf(access),
        onEvent: reporter(context),
      })
      tellHowToTalk(context, description.devices, name, { ...running, routes: config.routes })
      // A connection that stands for weeks asks for no keys.
      const erasing = setInterval(() => void currentKeys(access, name).catch(() => {}), eraseEveryMs)
      const stop = async (): Promise<void> => {
        clearInterval(erasing)
        following.abort()
        await Promise.all([running.stop(), run])
      }
      const { mqtt, coap = null } = running
      return { ready: { name, id: keys.id, mqtt, coap, pid: process.pid }, stop }
    } catch (error) {
      following.abort()
      await run
      throw error
    }
  })
}

/** Adds a line to the decision log of a device, which several processes may write to. */
export async function logDecision(directory: string, line: DecisionLine): Promise<void> {
  const { fileDecisionLog } = await import('../mqtt-gateway/protocol/decision-log.ts')
  const log = await fileDecisionLog(directory)
  log.write(line)
  await log.close()
}

/** The names of devices and groups in the directory of a devnet. */
export function localNamesOf(access: ChainAccess): LocalNames {
  const { keys, directory, description } = access
  return {
    device: nameOrId => keys.resolve(nameOrId),
    group: nameOrId => requireGroup(access, nameOrId).catch(() => undefined),
    nameOfDevice: async (id: DeviceId) => (await deviceNameOf(access, id)) ?? id,
    nameOfGroup: async (id: GroupId) => {
      const known = [...(await readGroupNames(directory))].find(([, group]) => group === id)?.[0]
      return known ?? description.groups.find(group => group.id === id)?.name ?? id
    },
  }
}

/** Lines that an application's author can paste. */
function tellHowToTalk(
  { output }: Context,
  devices: ChainAccess['description']['devices'],
  name: string,
  { mqtt, coap, routes }: RunningAgent & { readonly routes: LocalRoutes },
): void {
  const at = mqtt.type === 'tcp' ? `-h ${mqtt.host} -p ${mqtt.port}` : `--unix ${mqtt.path}`
  const other = devices.find(device => device.name !== name)?.name ?? name
  const topic = routes.publish[0]?.topic.replace('{device}', other)
  output.note(`${name} listens for applications on this machine; what works now:`)
  if (topic !== undefined) output.note(`  mosquitto_pub ${at} -q 1 -t ${topic} -m hello`)
  output.note(`  mosquitto_sub ${at} -q 1 -t '#' -v`)
  if (coap && topic !== undefined)
    output.note(`  coap-client -m put -e hello coap://${coap.host}:${coap.port}/${topic}`)
}

/** One line for each thing that happens; of a message that goes on waiting for one reason, the first. */
function reporter({ output }: Context): (event: AgentEvent) => void {
  let last = ''
  return event => {
    const line = lineOf(event)
    if (line !== undefined && line !== last) output.note(line)
    last = line ?? last
  }
}

function lineOf(event: AgentEvent): string | undefined {
  switch (event.type) {
    case 'connected':
      return 'connected to the gateway'
    case 'disconnected':
      return `not connected: ${event.reason.code}: ${event.reason.detail}`
    case 'waiting':
      return `waiting for ${event.to.type} ${event.to.id}: ${event.reason.code}`
    case 'outcome': {
      const { outcome } = event
      if (outcome.type !== 'dropped') return undefined
      return `dropped: message ${outcome.sequence} to ${outcome.to.type} ${outcome.to.id}: ${outcome.reason.code}: ${outcome.reason.detail}`
    }
    case 'record-waiting':
      return `waiting for the chain: ${event.reason.code}: ${event.reason.detail}`
    case 'recorded': {
      const { outcome } = event
      if (outcome.type === 'certified') return undefined
      const { code, detail } = outcome.reason
      return `not recorded: ${outcome.transaction ?? `record ${outcome.sequence}`}: ${code}: ${detail}`
    }
    case 'refused':
      return `refused: ${event.reason.code}: ${event.reason.detail}`
    case 'local':
      return `refused to an application: ${event.reason.code}: ${event.reason.detail}`
  }
}
