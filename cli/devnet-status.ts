/**
 * `mote devnet status`, and what `mote devnet up` prints when it is ready: the processes as the supervisor sees them,
 * the devices as the chain proves them.
 */
import { exitCodes } from '../chain/errors.ts'
import { askControl } from '../devnet/control.ts'
import type { DevnetDescription } from '../devnet/layout.ts'
import type { ProcessStatus } from '../devnet/supervisor.ts'
import { openChainUnsynced, requireDescription, syncWithin } from './chain-access.ts'
import type { Context } from './context.ts'
import { provenance, shortId } from './output.ts'

/** How long the nodes may take to prove the devices; the processes are shown in any case. */
const devicesPatienceMs = 3_000

/** With fewer full nodes the loss of the leader stops the chain. */
const quorumWithoutOne = 3

interface Devices {
  readonly devices: readonly { readonly name: string; readonly id: string; readonly status: string | null }[]
  /** The certified head at which they were read; null when no full node answers. */
  readonly asOf: { readonly height: number; readonly term: number; readonly ageMs: number } | null
}

export async function devnetStatus(context: Context): Promise<number> {
  const description = await requireDescription(context)
  const status = (await askControl(
    description.controlSocket,
    { command: 'status' },
    context.signal,
  )) as ProcessStatus
  await printStatus(context, description, status)
  return exitCodes.ok
}

/** Statuses of the devices, verified; null where no full node gives a valid answer. */
async function readDevices(context: Context, description: DevnetDescription): Promise<Devices> {
  try {
    const access = await openChainUnsynced(context)
    await syncWithin(access, devicesPatienceMs)
    const { client } = access
    const devices = await Promise.all(
      description.devices.map(async ({ name, id }) => {
        const { value } = await client.records.device(id)
        return { name, id, status: value?.status ?? 'unknown' }
      }),
    )
    const { height, term } = client.follower.head.header
    return { devices, asOf: { height, term, ageMs: client.records.ageMs() } }
  } catch (error) {
    context.output.note(
      `devices: no verified answer (${error instanceof Error ? error.message : String(error)})`,
    )
    return { devices: description.devices.map(({ name, id }) => ({ name, id, status: null })), asOf: null }
  }
}

export async function printStatus(
  context: Context,
  description: DevnetDescription,
  { nodes, gateway }: ProcessStatus,
  { banner = false }: { readonly banner?: boolean } = {},
): Promise<void> {
  const { output, directory, directoryNamed } = context
  const { devices, asOf } = await readDevices(context, description)
  const answer = { directory, chainId: description.chainId, nodes, gateway, devices, ...asOf }
  output.data(answer, () =>
    [
      output.table(nodes, {
        node: row => row.name,
        label: row => row.label,
        state: row => row.state,
        role: row => row.role,
        term: row => row.term,
        height: row => row.height,
        lag: row => row.lag,
        pid: row => row.pid,
        api: row => row.api,
      }),
      '',
      output.fields({
        gateway: `${gateway.mqtt} (${gateway.state}, pid ${gateway.pid ?? '-'})`,
        devices: devices.map(({ name, status }) => `${name} ${status ?? '?'}`).join(', '),
        chain: shortId(description.chainId),
        directory,
      }),
      ...(asOf ? [`verified ${provenance(asOf)}`] : []),
      ...(banner ? ['', nextSteps(description, directoryNamed ? ` --dir ${directory}` : '')] : []),
    ].join('\n'),
  )
}

/** What a newcomer can do with this devnet: commands that name only what is there. `where` ends each of them. */
export function nextSteps(
  { nodes, devices }: Pick<DevnetDescription, 'nodes' | 'devices'>,
  where: string,
): string {
  const count = (label: string): number => nodes.filter(node => node.label === label).length
  const [first, second, third] = devices.map(({ name }) => name)
  // The third device is in a group with the first one.
  const recipient = third ?? second
  const shown = recipient ?? first
  const steps = [
    ...(shown === undefined && count('coordination') > 0 ? ['device join sensor-9'] : []),
    ...(shown === undefined ? [] : [`device trust ${shown}`]),
    ...(recipient === undefined
      ? []
      : [`device listen ${recipient}`, `device send ${recipient} "hello" --from ${first}`]),
    ...(count('full') < quorumWithoutOne ? [] : ['chaos kill-leader --watch']),
    'devnet down',
  ]
  return ['You can now, in another terminal:', ...steps.map(step => `  npx mote ${step}${where}`)].join('\n')
}
