/**
 * `mote device rights`: what the operators let a device do beyond its own messages (chain/rights.ts).
 */
import type { Command } from 'commander'
import type { DeviceId } from '../chain/brands.ts'
import { exitCodes } from '../chain/errors.ts'
import { maxRightsFilters } from '../chain/limits.ts'
import { MoteError } from '../chain/result.ts'
import { type IdentityRights, isPlainFilter, noRights, type RightsRecord } from '../chain/rights.ts'
import { setRights } from '../client/operator-actions.ts'
import type { Verified } from '../client/verified-chain.ts'
import { type ChainAccess, operatorKeys } from '../devnet/access.ts'
import { deviceNameOf, openChain, requireDevice } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import type { Context } from './context.ts'
import { provenance } from './output.ts'

interface RightsOptions {
  readonly publish?: readonly string[]
  readonly subscribe?: readonly string[]
  readonly observe?: boolean
  readonly gateway?: boolean
  readonly none?: boolean
}

export function rightsCommand(family: Command, add: AddCommand): void {
  add<RightsOptions>({
    parent: family,
    usage: 'rights <device>',
    description:
      "what a device may do beyond its own messages; with an option, replace it (an operator's transaction)",
    options: [
      { flags: '--publish <filter...>', description: 'plain topics that it may publish to in the clear' },
      { flags: '--subscribe <filter...>', description: 'plain topics that it may receive' },
      { flags: '--observe', description: 'it may receive what is delivered to others, which stays sealed' },
      { flags: '--gateway', description: 'it may attest for others and write decisions' },
      { flags: '--none', description: 'nothing' },
    ],
    notes:
      'Options say all that the device may do from then on: what is not named is taken away. A filter is one of MQTT whose first level is written out and is not mote.',
    action: rights,
  })
}

async function rights(
  context: Context,
  [nameOrId = '']: readonly string[],
  options: RightsOptions,
): Promise<number> {
  const wanted = askedRights(options)
  const access = await openChain(context)
  const id = await requireDevice(access, nameOrId)
  const { record, transaction } = await readOrSet(context, access, id, wanted)
  const { publish, subscribe, observe, gateway, version } = record.value ?? { ...noRights, version: 0 }
  const { height, term, ageMs } = record
  const name = await deviceNameOf(access, id)
  const held = { publish, subscribe, observe, gateway }
  const answer = { id, name, ...held, version, transaction, height, term, ageMs, verified: true }
  context.output.data(answer, () =>
    [
      context.output.fields({ id, name, ...rightsRows(held) }),
      ...(transaction === null ? [] : [`transaction ${transaction}`]),
      `verified ${provenance(record)}`,
    ].join('\n'),
  )
  return exitCodes.ok
}

interface Outcome {
  readonly record: Verified<RightsRecord>
  readonly transaction: string | null
}

async function readOrSet(
  context: Context,
  access: ChainAccess,
  id: DeviceId,
  wanted: IdentityRights | undefined,
): Promise<Outcome> {
  const { client } = access
  if (!wanted) return { record: await client.records.rights(id), transaction: null }
  const operator = await operatorKeys(access)
  const { timeoutMs } = context
  const { record, transaction } = await setRights(client, operator, { id, rights: wanted }, { timeoutMs })
  return { record, transaction: transaction.id }
}

/** What the options ask for; undefined if they ask for nothing. Throws `usage`. */
function askedRights({
  publish,
  subscribe,
  observe,
  gateway,
  none,
}: RightsOptions): IdentityRights | undefined {
  const asked = publish !== undefined || subscribe !== undefined || observe || gateway
  if (none && asked) throw new MoteError('usage', '--none: stands alone')
  if (!none && !asked) return undefined
  return {
    publish: filtersOf('--publish', publish),
    subscribe: filtersOf('--subscribe', subscribe),
    observe: observe ?? false,
    gateway: gateway ?? false,
  }
}

function filtersOf(option: string, filters: readonly string[] = []): readonly string[] {
  const wrong = filters.find(filter => !isPlainFilter(filter))
  if (wrong !== undefined)
    throw new MoteError('usage', `${option}: expected topic filters outside mote/ and $, got '${wrong}'`)
  const distinct = [...new Set(filters)].sort()
  if (distinct.length > maxRightsFilters)
    throw new MoteError(
      'usage',
      `${option}: expected at most ${maxRightsFilters} filters, got ${distinct.length}`,
    )
  return distinct
}

/** Rights as rows for people; none of them is a dash. */
export function rightsRows({ publish, subscribe, observe, gateway }: IdentityRights) {
  return {
    publish: publish.join(', ') || undefined,
    subscribe: subscribe.join(', ') || undefined,
    rights: [...(observe ? ['observe'] : []), ...(gateway ? ['gateway'] : [])].join(', ') || undefined,
  }
}
