/**
 * `mote device contact refresh`: a device's copies of keys, each replaced by the chain's when somebody asks for it
 * (mqtt-gateway/device/contacts.ts, topic-copies.ts).
 */
import type { Command } from 'commander'
import type { DeviceId, GroupId } from '../chain/brands.ts'
import { exitCodes } from '../chain/errors.ts'
import { keyIdOf } from '../chain/keys.ts'
import { MoteError } from '../chain/result.ts'
import { openChain, requireDevice, requireGroup } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import type { Context } from './context.ts'
import { stateDirectoryOf } from './messages.ts'
import { provenance } from './output.ts'

interface RefreshOptions {
  readonly from: string
  readonly topic?: string
}

export function contactCommand(family: Command, add: AddCommand): void {
  add<RefreshOptions>({
    parent: family.command('contact').description("a device's copies of other devices' and of topics' keys"),
    usage: 'refresh [device]',
    description:
      "replace the copy of a device's or an open topic's key by the chain's: after a rotation, or when it was altered",
    exits: { 5: 'the device is not active, or has no key to encrypt to; the topic has no key yet' },
    options: [
      { flags: '--from <name>', description: 'the sending device, whose copy it is', required: true },
      { flags: '--topic <topic>', description: "an open topic's key instead of a device's" },
    ],
    action: refreshCopy,
  })
}

async function refreshCopy(
  context: Context,
  [nameOrId]: readonly string[],
  { from, topic }: RefreshOptions,
): Promise<number> {
  if ((nameOrId === undefined) === (topic === undefined))
    throw new MoteError('usage', 'refresh: expected a device, or --topic and no device')
  const [{ DeviceState }, { refreshContact }, { refreshTopicCopy }, { agentChain }] = await Promise.all([
    import('../mqtt-gateway/device/device-state.ts'),
    import('../mqtt-gateway/device/contacts.ts'),
    import('../mqtt-gateway/device/topic-copies.ts'),
    import('../mqtt-gateway/device/agent-chain.ts'),
  ])
  const access = await openChain(context)
  const { client, directory } = access
  const keys = await access.keys.load(from)
  const chain = agentChain(client, keys)
  const id =
    topic === undefined
      ? await requireDevice(access, nameOrId ?? '')
      : await requireGroup(access, topic, keys.id)
  const state = await DeviceState.open(stateDirectoryOf(directory, keys))
  const { key, before, height } = await (topic === undefined
    ? refreshContact(state, chain, id as DeviceId, client.records.time())
    : refreshTopicCopy(state, chain, id as GroupId))
  const keyId = keyIdOf(key)
  const { term } = client.follower.head.header
  const ageMs = client.records.ageMs()
  const changed = before !== keyId
  const answer = { of: keys.name, id, before: before ?? null, keyId, changed, height, term, ageMs }
  context.output.data(answer, () =>
    [
      context.output.fields({ before: before ?? 'no copy', now: changed ? keyId : 'the same' }),
      `verified ${provenance(answer)}`,
    ].join('\n'),
  )
  return exitCodes.ok
}
