/**
 * `mote device listen NAME --raw`: what reaches a bystander and cannot be opened, one line for each delivery.
 */
import { exitCodes } from '../chain/errors.ts'
import { bytesToHex } from '../chain/hex.ts'
import { MoteError } from '../chain/result.ts'
import type { IdentityKeys } from '../client/key-directory.ts'
import type { ChainAccess } from '../devnet/access.ts'
import type { GatewayAddress } from '../mqtt-gateway/device/gateway-address.ts'
import { deviceNameOf, groupNameOf } from './chain-access.ts'
import type { Context } from './context.ts'
import { shortId } from './output.ts'

type Observed = import('../mqtt-gateway/device/observer.ts').ObservedEnvelope

/** Ends after `count` lines, or with the connection. Throws `not-authorised` without the right to observe. */
export async function listenRaw(
  context: Context,
  access: ChainAccess,
  keys: IdentityKeys,
  count: number,
  gateway: GatewayAddress,
): Promise<number> {
  const [{ observeDeliveries }, { agentChain }] = await Promise.all([
    import('../mqtt-gateway/device/observer.ts'),
    import('../mqtt-gateway/device/agent-chain.ts'),
  ])
  const { client } = access
  const done = Promise.withResolvers<number>()
  let printed = Promise.resolve()
  let left = count
  const seen = (envelope: Observed): void => {
    if (left === 0) return
    left -= 1
    const isLast = left === 0
    printed = printed.then(() => print(context, access, envelope))
    printed.then(() => isLast && done.resolve(exitCodes.ok), done.reject)
  }
  const connection = await observeDeliveries(
    {
      gateway,
      chain: agentChain(client, keys),
      keys,
      timeoutMs: context.timeoutMs,
    },
    { seen, refused: ({ code, detail }) => context.output.note(`refused: ${code}: ${detail}`) },
  ).catch(error => {
    if (error instanceof MoteError && error.code === 'not-authorised')
      context.output.note(
        `\`mote device rights ${keys.name} --observe\` gives the right, to an operator's key`,
      )
    throw error
  })
  try {
    context.output.note('listening')
    void connection.ended.then(done.reject)
    return await done.promise
  } finally {
    await connection.close()
  }
}

async function print(context: Context, access: ChainAccess, envelope: Observed): Promise<void> {
  const { messageId, from, deliveredTo, target, channel, suite, size } = envelope
  const nameOf = async (id: Observed['from']) => (await deviceNameOf(access, id)) ?? id
  const [sender, recipient] = await Promise.all([nameOf(from), nameOf(deliveredTo)])
  const group = target.type !== 'device' ? await groupNameOf(access, target.id) : undefined
  const first = bytesToHex(envelope.first)
  const answer = {
    from: sender,
    fromId: from,
    deliveredTo: recipient,
    deliveredToId: deliveredTo,
    target: { ...target, ...(group !== undefined && { [target.type]: group }) },
    ...(channel === '' ? {} : { channel }),
    suite,
    size,
    first,
    messageId,
  }
  const short = (name: string) => (name.length === 64 ? shortId(name) : name)
  const place = group === undefined ? short(recipient) : `${short(group)} (${short(recipient)})`
  context.output.data(answer, () => `${short(sender)} → ${place}  ${suite}  ${size} bytes  ${first}`)
}
