/**
 * Asks the gateway a question over MQTT, as a device does, and verifies the answer: what "the gateway answers" means
 * when a devnet comes up. The operator asks, whose identity stands in the genesis.
 */
import type { Milliseconds } from '../chain/brands.ts'
import { decode } from '../chain/codec.ts'
import { stateAnswerCodec } from '../chain/light-client.ts'
import { unwrap } from '../chain/result.ts'
import type { ChainClient } from '../client/chain-client.ts'
import { nativeVerifier } from '../client/native-crypto.ts'
import { openDevnetChain, operatorKeys } from '../devnet/access.ts'
import type { DevnetDescription } from '../devnet/layout.ts'
import { askGateway, verifyDeviceAnswer } from '../mqtt-gateway/device/ask.ts'
import {
  type DeviceConnectionOptions,
  openDeviceConnection,
} from '../mqtt-gateway/device/device-connection.ts'
import { chainTrust } from '../mqtt-gateway/protocol/chain-trust.ts'

const answerTimeoutMs = 5_000

/** Resolves when the gateway has answered with a proof that holds. Throws otherwise. */
export async function probeGateway(
  directory: string,
  description: DevnetDescription,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted()
  const access = await openDevnetChain(directory, description)
  const { checkpoint, client } = access
  const operator = await operatorKeys(access)
  const gateway = description.gateway.mqtt
  // To log in takes nothing of the chain at a gateway, and its key at a broker that it stands beside.
  if (gateway.brokerOf) await client.follower.sync()
  const connection = await openDeviceConnection({
    gateway,
    keys: operator,
    chain: chainOf(client),
    timeoutMs: answerTimeoutMs,
  })
  try {
    const asker = { connection, device: operator.id, timeoutMs: answerTimeoutMs }
    const proof = await askGateway(asker, { type: 'device', id: operator.id })
    const { height } = unwrap(decode(stateAnswerCodec, proof))
    // The consenters may have changed since the genesis; the full nodes lead to those who certify now.
    const trusted = height === 0 ? checkpoint : await client.follower.sync()
    unwrap(verifyDeviceAnswer(trusted, operator.id, proof, nativeVerifier))
  } finally {
    await connection.close()
  }
}

function chainOf({ records, pool }: ChainClient): DeviceConnectionOptions['chain'] {
  return { ...chainTrust(records, pool), now: () => Date.now() as Milliseconds }
}
