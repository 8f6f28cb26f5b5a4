/**
 * Asks the gateway a question over MQTT, as a device does, and verifies the answer: what "the gateway answers" means
 * when a devnet comes up. The operator asks, whose identity stands in the genesis.
 */
import type { Milliseconds } from '../chain/brands.ts'
import { decode } from '../chain/codec.ts'
import { checkpointFromGenesis } from '../chain/genesis.ts'
import { stateAnswerCodec, type TrustedHead } from '../chain/light-client.ts'
import { unwrap } from '../chain/result.ts'
import { ChainClient } from '../client/chain-client.ts'
import { readGenesisFile } from '../client/genesis-file.ts'
import { KeyDirectory } from '../client/key-directory.ts'
import { nativeVerifier } from '../client/native-crypto.ts'
import { fullNodeSources } from '../devnet/access.ts'
import { type DevnetDescription, layout } from '../devnet/layout.ts'
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
  const checkpoint = checkpointFromGenesis(await readGenesisFile(layout.genesis(directory)))
  const operator = await (await KeyDirectory.open(layout.operator(directory))).load('operator')
  const connection = await openDeviceConnection({
    gateway: description.gateway.mqtt,
    keys: operator,
    chain: await chainOf(checkpoint, description),
    timeoutMs: answerTimeoutMs,
  })
  try {
    const asker = { connection, device: operator.id, timeoutMs: answerTimeoutMs }
    const proof = await askGateway(asker, { type: 'device', id: operator.id })
    const { height } = unwrap(decode(stateAnswerCodec, proof))
    const trusted = height === 0 ? checkpoint : await newestHead(checkpoint, description)
    unwrap(verifyDeviceAnswer(trusted, operator.id, proof, nativeVerifier))
  } finally {
    await connection.close()
  }
}

/** What is needed of the chain to log in: nothing at a gateway, its key at a broker that it stands beside. */
async function chainOf(
  checkpoint: TrustedHead,
  description: DevnetDescription,
): Promise<DeviceConnectionOptions['chain']> {
  const client = await ChainClient.open({ sources: fullNodeSources(description), checkpoint })
  if (description.gateway.mqtt.brokerOf) await client.follower.sync()
  return { ...chainTrust(client.records, client.pool), now: () => Date.now() as Milliseconds }
}

/** The consenters may have changed since the genesis; the full nodes lead to those who certify now. */
async function newestHead(checkpoint: TrustedHead, description: DevnetDescription): Promise<TrustedHead> {
  const client = await ChainClient.open({ sources: fullNodeSources(description), checkpoint })
  return client.follower.sync()
}
