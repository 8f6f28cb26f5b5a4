/**
 * The options of `mote devnet up`, read once for the foreground and for the detached supervisor.
 */
import { builtSuites, type EnvelopeSuite } from '../chain/envelope-suites.ts'
import { MoteError } from '../chain/result.ts'
import { defaultSize, type GenerateOptions, maxDevices } from '../devnet/generate.ts'
import type { OptionSpec } from './command.ts'
import { parseCount } from './context.ts'

export interface UpOptions {
  readonly full: number
  readonly coordination: number
  readonly lightweight: number
  readonly devices: number
  readonly seed?: string
  readonly ports: number | 'auto'
  readonly suites?: readonly EnvelopeSuite[]
  readonly tls?: boolean
  readonly plainIn?: readonly string[]
  readonly plainOut?: readonly string[]
  /** What stands between devices and gateway: the gateway's own broker, or a Mosquitto. */
  readonly broker: BrokerChoice
  /** Connect all devices, in one agent process. */
  readonly agents?: boolean
  readonly detach?: boolean
  /** Set by `--detach` for the process it leaves behind: the directory is the default one. */
  readonly temporary?: boolean
}

/** Names with commas between them, in any order. */
function readSuites(text: string): readonly EnvelopeSuite[] {
  const names = text.split(',')
  for (const name of names)
    if (!builtSuites.some(suite => suite === name))
      throw new MoteError('usage', `suites: expected ${builtSuites.join(', ')}, got '${name}'`)
  return builtSuites.filter(suite => names.includes(suite))
}

function readPorts(text: string): number | 'auto' {
  return text === 'auto' ? 'auto' : parseCount('ports', 1024, 65_000)(text)
}

export const brokerChoices = ['embedded', 'mosquitto'] as const
type BrokerChoice = (typeof brokerChoices)[number]

function readBroker(text: string): BrokerChoice {
  const choice = brokerChoices.find(each => each === text)
  if (!choice) throw new MoteError('usage', `broker: expected ${brokerChoices.join(' or ')}, got '${text}'`)
  return choice
}

export const upOptions: readonly OptionSpec[] = [
  {
    flags: '--broker <broker>',
    description:
      "whose MQTT broker devices come to: the gateway's own (embedded), or a mosquitto of this machine",
    default: 'embedded',
    read: readBroker,
  },
  {
    flags: '--full <n>',
    description: 'full nodes',
    default: defaultSize.full,
    read: parseCount('full', 1, 7),
  },
  {
    flags: '--coordination <n>',
    description: 'coordination nodes',
    default: defaultSize.coordination,
    read: parseCount('coordination', 0, 4),
  },
  {
    flags: '--lightweight <n>',
    description: 'lightweight nodes',
    default: defaultSize.lightweight,
    read: parseCount('lightweight', 0, 16),
  },
  {
    flags: '--devices <n>',
    description: `devices: 1111, 1112, …, at most ${maxDevices}`,
    default: defaultSize.devices,
    read: parseCount('devices', 0, maxDevices),
  },
  { flags: '--agents', description: 'connect all devices, in one agent process with a local MQTT port' },
  { flags: '--tls', description: "a port for TLS too, with a certificate by the devnet's own authority" },
  {
    flags: '--plain-in <filter...>',
    description: 'topics whose messages are recorded, of plain MQTT clients; may be repeated',
  },
  { flags: '--plain-out <filter...>', description: 'topics for decisions of contracts; may be repeated' },
  { flags: '--seed <text>', description: 'every key follows from it (default: random)' },
  {
    flags: '--ports <ports>',
    description: "the first of consecutive ports, or 'auto'",
    default: 'auto',
    read: readPorts,
  },
  {
    flags: '--suites <names>',
    description: `how messages may be sealed, with commas between: ${builtSuites.join(', ')} (default: all)`,
    read: readSuites,
  },
]

/** The topics that the gateway is to map; undefined for none. */
export function mappedTopics({ plainIn = [], plainOut = [] }: UpOptions): GenerateOptions['plain'] {
  return plainIn.length + plainOut.length > 0 ? { in: plainIn, out: plainOut } : undefined
}

export const seedWarning =
  'WARNING: every key of this devnet follows from --seed; whoever knows the seed holds them all. For tests only.'
