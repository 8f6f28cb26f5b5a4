/**
 * `mote device listen NAME --raw`: what reaches a bystander and cannot be opened, one line for each delivery.
 */
import { exitCodes } from '../chain/errors.ts'
import { bytesToHex } from '../chain/hex.ts'
import { MoteError, type Refusal } from '../chain/result.ts'
import type { ChainAccess } from '../devnet/access.ts'
import { deviceNameOf, groupNameOf } from './chain-access.ts'
import type { Context } from './context.ts'
import { shortId } from './output.ts'

type Observed = import('../mqtt-gateway/device/observer.ts').ObservedEnvelope

export interface RawListening {
  /** Of the device. */
  readonly name: string
  readonly agent: import('../mqtt-gateway/device/agent.ts').DeviceAgent
  readonly count: number
}

/** Ends after `count` lines, or with the connection. Throws `not-authorised` without the right to observe. */
export async function listenRaw(
  context: Context,
  access: ChainAccess,
  { name, agent, count }: RawListening,
): Promise<number> {
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
  const refused = ({ code, detail }: Refusal) => context.output.note(`refused: ${code}: ${detail}`)
  await agent.observe({ seen, refused }).catch(error => {
    if (error instanceof MoteError && error.code === 'not-authorised')
      context.output.note(`\`mote device rights ${name} --observe\` gives the right, to an operator's key`)
    throw error
  })
  context.output.note('listening')
  void agent.ended.then(done.reject)
  return done.promise
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
