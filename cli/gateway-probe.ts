/**
 * Asks the gateway a question over MQTT, as a device does, and verifies the answer: what "the gateway answers" means
 * when a devnet comes up. The operator asks, whose identity stands in the genesis.
 */
import { randomBytes } from 'node:crypto'
import type { Milliseconds } from '../chain/brands.ts'
import { decode } from '../chain/codec.ts'
import { checkpointFromGenesis } from '../chain/genesis.ts'
import { stateAnswerCodec, type TrustedHead, verifyStateAnswer } from '../chain/light-client.ts'
import { stateKeyOf } from '../chain/records.ts'
import { MoteError, unwrap } from '../chain/result.ts'
import { ChainClient } from '../client/chain-client.ts'
import { readGenesisFile } from '../client/genesis-file.ts'
import { KeyDirectory, signerOf } from '../client/key-directory.ts'
import { nativeVerifier } from '../client/native-crypto.ts'
import { type DevnetDescription, layout } from '../devnet/layout.ts'
import { MqttConnection } from '../mqtt-gateway/mqtt-connection.ts'
import { encodeQuestion, parseAnswer } from '../mqtt-gateway/question.ts'
import { topics } from '../mqtt-gateway/topics.ts'
import { fullNodeSources } from './chain-access.ts'

const answerTimeoutMs = 5_000

/** Resolves when the gateway has answered with a proof that holds. Throws otherwise. */
export async function askGateway(
  directory: string,
  description: DevnetDescription,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted()
  const checkpoint = checkpointFromGenesis(await readGenesisFile(layout.genesis(directory)))
  const operator = await (await KeyDirectory.open(layout.operator(directory))).load('operator')
  const connection = await MqttConnection.open({
    gateway: description.gateway.mqtt,
    chainId: checkpoint.chainId,
    device: operator.id,
    signer: signerOf(operator),
    now: () => Date.now() as Milliseconds,
    timeoutMs: answerTimeoutMs,
  })
  try {
    const nonce = Uint8Array.from(randomBytes(16))
    const proof = Promise.withResolvers<Uint8Array>()
    connection.onMessage(({ payload }) => {
      const answer = parseAnswer(payload)
      if (answer.ok && Buffer.compare(answer.value.nonce, nonce) === 0) proof.resolve(answer.value.proof)
    })
    await connection.subscribe(topics.answer(operator.id))
    await connection.publish(
      topics.ask(operator.id),
      encodeQuestion(nonce, { type: 'device', id: operator.id }),
    )
    const late = setTimeout(
      () => proof.reject(new MoteError('timeout', 'gateway: no answer to a question')),
      answerTimeoutMs,
    )
    const bytes = await proof.promise.finally(() => clearTimeout(late))
    const answer = unwrap(decode(stateAnswerCodec, bytes))
    const trusted = answer.height === 0 ? checkpoint : await newestHead(checkpoint, description)
    unwrap(verifyStateAnswer(trusted, stateKeyOf.identity(operator.id), answer, nativeVerifier))
  } finally {
    await connection.close()
  }
}

/** The consenters may have changed since the genesis; the full nodes lead to those who certify now. */
async function newestHead(checkpoint: TrustedHead, description: DevnetDescription): Promise<TrustedHead> {
  const client = await ChainClient.open({ sources: fullNodeSources(description), checkpoint })
  return client.follower.sync()
}
