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
  const { output, directory } = context
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
      ...(banner ? ['', nextSteps(context)] : []),
    ].join('\n'),
  )
}

function nextSteps({ directory, directoryNamed }: Context): string {
  const where = directoryNamed ? ` --dir ${directory}` : ''
  return [
    'You can now, in another terminal:',
    `  npx mote device trust 1113${where}`,
    `  npx mote device listen 1113${where}`,
    `  npx mote device send 1113 "hello" --from 1111${where}`,
    `  npx mote chaos kill-leader --watch${where}`,
    `  npx mote devnet down${where}`,
  ].join('\n')
}
