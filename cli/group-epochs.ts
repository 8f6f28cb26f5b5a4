/** The epoch key of a group from the command line: there before the first message, sealed to every member (Hsu C3). */
import { refusalOf } from '../chain/result.ts'
import type { IdentityKeys } from '../client/key-directory.ts'
import type { Verified, VerifiedGroup } from '../client/verified-chain.ts'
import type { ChainAccess } from '../devnet/access.ts'
import { type AgentContext, connectAgent } from './messages.ts'

/**
 * The group with an epoch that fits its members. What is on the chain stays if there can be none now, without a gateway say; the next member
 * to send makes it then, and no message is sent under an older one after a removal.
 */
export async function withEpoch(
  context: AgentContext,
  access: ChainAccess,
  owner: IdentityKeys,
  group: Verified<VerifiedGroup>,
): Promise<Verified<VerifiedGroup>> {
  const { needsEpoch } = await import('../mqtt-gateway/device/agent-epochs.ts')
  if (!group.value || !needsEpoch(group.value)) return group
  try {
    const agent = await connectAgent(context, access, owner)
    try {
      await agent.epochs.ensureEpoch(group.value)
    } finally {
      await agent.close()
    }
    return await access.client.records.group(group.value.record.id)
  } catch (error) {
    const { code, detail } = refusalOf(error)
    context.output.note(`no epoch key yet, the next member to send makes it: ${code}: ${detail}`)
    return group
  }
}

/** The same for every group that a devnet comes with, each by its owner, side by side. */
export async function withFirstEpochs(context: AgentContext, access: ChainAccess): Promise<void> {
  const { client, description, keys } = access
  const made = description.groups.map(async ({ id, name, owner }) => {
    const before = await client.records.group(id)
    const { value } = await withEpoch(context, access, await keys.load(owner), before)
    if (value && value.record.epoch !== before.value?.record.epoch)
      context.output.note(`group ${name} has its key, epoch ${value.record.epoch}`)
  })
  await Promise.all(made)
}
