/**
 * `mote devnet status`, and what `mote devnet up` prints when it is ready: the processes as the supervisor sees them,
 * the devices as the chain proves them.
 */
import { exitCodes } from '../chain/errors.ts'
import { askControl } from '../devnet/control.ts'
import type { DevnetDescription } from '../devnet/layout.ts'
import type { NodeRow, ProcessStatus } from '../devnet/process-status.ts'
import { clockOffsetText } from '../devnet/shifted-clock.ts'
import { openChainUnsynced, requireDescription } from './chain-access.ts'
import type { Context } from './context.ts'
import { type IdentityRow, readIdentities, unsupervisedNodes } from './identity-rows.ts'
import { durationText, provenance, shortId } from './output.ts'

/** With fewer full nodes the loss of the leader stops the chain. */
const quorumWithoutOne = 3

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

export async function printStatus(
  context: Context,
  description: DevnetDescription,
  { nodes: supervised, gateway, broker, agents }: ProcessStatus,
  { banner = false }: { readonly banner?: boolean } = {},
): Promise<void> {
  const { output, directory, directoryNamed } = context
  const access = await openChainUnsynced(context)
  const nodes = [...supervised, ...(await unsupervisedNodes(access, supervised))]
  const { devices, asOf } = await readIdentities(context, access, nodes)
  const answer = {
    directory,
    chainId: description.chainId,
    nodes,
    gateway,
    ...(broker && { broker }),
    agents,
    devices,
    ...asOf,
  }
  output.data(answer, () =>
    [
      output.table(nodes, {
        node: row => row.name,
        label: row => row.label,
        state: row => (row.supervised ? row.state : `${row.state}, started by hand`),
        role: row => row.role,
        term: row => row.term,
        height: row => row.height,
        lag: row => row.lag,
        'served by': row => row.servedBy,
        pid: row => row.pid,
        api: row => row.api,
      }),
      '',
      ...deviceLines(output, devices, banner ? maxDevicesInBanner : devices.length),
      output.fields({
        gateway: `${[gateway.mqtt, gateway.mqtts].filter(url => url !== undefined).join(', ')} (${gateway.state}, pid ${gateway.pid ?? '-'})`,
        broker: broker && `${broker.name} (${broker.state}, pid ${broker.pid ?? '-'})`,
        agents: agents ? `${agents.devices} devices (${agents.state}, pid ${agents.pid ?? '-'})` : undefined,
        chain: shortId(description.chainId),
        directory,
      }),
      ...clockLines([...nodes, gateway], nodes),
      ...(asOf ? [`verified ${provenance(asOf)}`] : []),
      ...(banner ? ['', nextSteps(description, directoryNamed ? ` --dir ${directory}` : '')] : []),
    ].join('\n'),
  )
}

/** Clocks that were shifted on purpose, and clocks that nodes call wrong, one line for each. */
export function clockLines(
  programs: readonly Pick<NodeRow, 'name' | 'clockOffsetMs'>[],
  nodes: readonly Pick<NodeRow, 'name' | 'oddClocks'>[],
): readonly string[] {
  const shifted = programs
    .filter(({ clockOffsetMs }) => clockOffsetMs !== 0)
    .map(({ name, clockOffsetMs }) => `clock of ${name}: shifted by ${clockOffsetText(clockOffsetMs)}`)
  const words = nodes.flatMap(({ name, oddClocks }) => oddClocks.map(odd => ({ by: name, ...odd })))
  const odd = [...Map.groupBy(words, ({ node }) => node)].map(([node, said]) => {
    const offsetMs = said[0]?.offsetMs ?? 0
    const by = said.map(word => word.by).join(', ')
    return `clock of ${node}: ${durationText(Math.abs(offsetMs))} ${offsetMs < 0 ? 'behind' : 'ahead'}, says ${by}`
  })
  return [...shifted, ...odd]
}

/** Devices that `devnet up` lists; `devnet status` lists them all. */
const maxDevicesInBanner = 16

function deviceLines(
  output: Context['output'],
  devices: readonly IdentityRow[],
  most: number,
): readonly string[] {
  if (devices.length === 0) return []
  const table = output.table(devices.slice(0, most), {
    device: row => row.name,
    label: row => row.label,
    status: row => row.status ?? '?',
    level: row => row.level,
    'served by': row => row.servedBy,
  })
  const more = devices.length - most
  return [table, ...(more > 0 ? [`and ${more} more: mote devnet status`] : []), '']
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
