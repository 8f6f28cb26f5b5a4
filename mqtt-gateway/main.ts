/**
 * A running gateway: picks the adapters and wires them (`mote gateway start --config FILE`).
 *
 * It counts as started when its MQTT port listens and it has verified a certified header by itself. While no node
 * answers it keeps asking; the HTTP status server, if there is one, says that it is not ready.
 */

import { join } from 'node:path'
import { checkpointFromGenesis } from '../chain/genesis.ts'
import type { TrustedHead } from '../chain/light-client.ts'
import { assert, MoteError } from '../chain/result.ts'
import { privateDirectory } from '../client/atomic-file.ts'
import { readAuthorities } from '../client/authorities-file.ts'
import { CertifiedBlocks } from '../client/certified-blocks.ts'
import { ChainClient } from '../client/chain-client.ts'
import { checkpointFile } from '../client/checkpoint-file.ts'
import type { ListenAddress } from '../client/configuration-file.ts'
import { pause, unlessAborted } from '../client/deadline.ts'
import { readGenesisFile } from '../client/genesis-file.ts'
import { httpSource } from '../client/http-source.ts'
import { readKeyFile } from '../client/key-directory.ts'
import { type Logger, openLog } from '../client/log.ts'
import { nativeVerifier } from '../client/native-crypto.ts'
import { devicePage } from '../client/record-list.ts'
import { AttachedGateway } from './attach.ts'
import { type GatewayConfig, type GatewayEdge, readGatewayConfig } from './config.ts'
import { DecisionPublishing } from './decision-publishing.ts'
import { chainTrust } from './protocol/chain-trust.ts'
import { fileDecisionLog } from './protocol/decision-log.ts'
import { maxEnvelopeBytes } from './protocol/envelope.ts'
import { allShards } from './protocol/sharded-topics.ts'
import { openRecorder } from './records/open-recorder.ts'
import { aedesBroker } from './server/aedes-broker.ts'
import { fileBoxStore } from './server/boxes.ts'
import type { BrokerFactory } from './server/broker.ts'
import { Gateway, type GatewayOptions } from './server/gateway.ts'
import type { SecureListener } from './server/listeners.ts'
import { Mailboxes } from './server/mailboxes.ts'
import { defaultOutgoingLimits } from './server/outgoing-queues.ts'
import { openStatusServer } from './server/status-server.ts'
import { readTlsPair, type TlsFiles } from './server/tls-identity.ts'

export interface RunningGateway {
  /** What its ready line says. */
  readonly ready: object
  /** Drains: takes no new connections, ends the old ones, writes its files. */
  stop(): Promise<void>
  /** Resolves when it has ended by itself: never, since it goes on through every failure of others. */
  readonly ended: Promise<void>
}

/** A full node that hangs is passed over after this long: a device waits for the answer. */
const requestTimeoutMs = 2_000
const retryDelayMs = 250
/** Time that a connection has to say who it is, and before that for a TLS handshake. */
const connectTimeoutMs = 3_000
/** Bytes of one client's messages that are being decided. */
const queuedBytesPerClient = 4 * 1024 * 1024

/** Starts the gateway of a configuration file. Throws `config-invalid`, `wrong-chain`, `key-not-found`, `interrupted`. */
export async function startGateway(configFile: string, signal: AbortSignal): Promise<RunningGateway> {
  const config = await readGatewayConfig(configFile)
  const keys = await readKeyFile(config.key)
  const { id } = keys
  await privateDirectory(config.data)
  const { log, close } = await openLog({ ...config.log, name: config.name })
  const checkpoint = await gatewayCheckpoint(config)
  const client = await openGatewayChain(config, checkpoint, log)
  const stopping = new AbortController()
  const trust = chainTrust(client.records, client.pool)
  const { edge, limits } = config
  const ca =
    edge.type === 'attached' && edge.ca !== undefined
      ? await readAuthorities('broker.ca', edge.ca)
      : undefined
  const embedded = edge.type === 'embedded' ? await embeddedBroker(edge, limits, log) : undefined
  const onError = (error: unknown): void => log.warn({ err: error }, 'records: not done; again soon')
  const blocks = new CertifiedBlocks(client.follower, client.pool)
  const records = await openRecorder({
    data: config.data,
    queue: config.queue,
    keys,
    client,
    blocks,
    checkpoint,
    onError,
  })
  const attached =
    edge.type === 'attached'
      ? new AttachedGateway({
          edge,
          ca,
          keys,
          devicePage: after => devicePage(client, after),
          trust,
          plain: config.plain,
          storeId: records.storeId,
          queuedPerDevice: limits.queuedPerClient,
          log,
        })
      : undefined
  const broker = embedded ?? attached?.factory
  assert(broker, 'an edge of the one kind or the other')
  const { recorder } = records
  const recording = { recorder, gateway: id, plain: config.plain }
  const gateway = await makeGateway(config, { trust, broker, records: recording }, log)
  const decisions = await DecisionPublishing.open({
    config,
    client,
    blocks,
    shards: () => attached?.shards() ?? allShards,
    publish: message => gateway.publishDecision(message),
    log,
  })
  let started = false
  const statusServer =
    config.api &&
    (await openStatusServer(config.api, {
      readiness: () => {
        if (!started) return new MoteError('not-ready', 'the gateway is starting')
        if (attached?.status().connected === false) return new MoteError('not-ready', 'broker: not connected')
        return gateway.status().fresh ? undefined : new MoteError('stale', 'head: older than trustTtl')
      },
      status: () => ({
        name: config.name,
        id,
        chainId: config.chainId,
        pid: process.pid,
        ...gateway.status(),
        records: records.status(),
        decisions: decisions.status(),
        ...(attached && { broker: attached.status() }),
      }),
    }))
  const following = client.follower.run(stopping.signal)
  const stop = async (): Promise<void> => {
    log.info('stopping')
    stopping.abort()
    await decisions.stop()
    await gateway.stop()
    await records.stop()
    blocks.close()
    await decisions.recordAll()
    await attached?.stop()
    await statusServer?.close()
    await following
    close()
  }
  try {
    await firstHeader(client, log, signal)
    const listening = async () => {
      await attached?.start()
      return gateway.start()
    }
    // A broker may not answer for hours.
    const stopped = () => new MoteError('interrupted', 'stopped before the broker answered')
    const { secure: mqtts, ...mqtt } = await unlessAborted(signal, listening(), stopped)
    decisions.start()
    started = true
    log.info({ mqtt, mqtts, height: gateway.status().height }, 'ready')
    const ready = {
      name: config.name,
      id,
      mqtt,
      ...(mqtts && { mqtts }),
      ...(statusServer && { api: statusServer.address }),
      pid: process.pid,
    }
    return { ready, stop, ended: new Promise(() => {}) }
  } catch (error) {
    await stop()
    throw error
  }
}

/** The genesis of its chain. Throws `config-invalid`, `wrong-chain`. */
export async function gatewayCheckpoint(config: GatewayConfig): Promise<TrustedHead> {
  const checkpoint = checkpointFromGenesis(await readGenesisFile(config.genesis))
  if (checkpoint.chainId !== config.chainId)
    throw new MoteError(
      'wrong-chain',
      `${config.genesis}: expected chain ${config.chainId}, got ${checkpoint.chainId}`,
    )
  return checkpoint
}

export function openGatewayChain(
  config: GatewayConfig,
  checkpoint: TrustedHead,
  log: Logger,
): Promise<ChainClient> {
  return ChainClient.open({
    sources: config.fullNodes.map(url => httpSource(url, { requestTimeoutMs })),
    checkpoint,
    store: checkpointFile(join(config.data, 'checkpoint')),
    // A source that is silent must be passed over while the head is still fresh enough to act on.
    waitMs: Math.min(10_000, Math.ceil(config.trustTtlMs / 3)),
    quietMs: Math.ceil((2 * config.trustTtlMs) / 3),
    onError: error => log.warn({ err: error }, 'no news from the chain'),
    onFault: (source, fault, error) =>
      log.warn({ source: source.name, fault, err: error }, 'source passed over'),
  })
}

async function embeddedBroker(
  { mqtt, mqtts }: Extract<GatewayEdge, { type: 'embedded' }>,
  limits: GatewayConfig['limits'],
  log: Logger,
): Promise<BrokerFactory> {
  const { connections, subscriptionsPerClient, queuedPerClient, unproven, unprovenPerAddress } = limits
  const { messagesPerSecond, bytesPerSecond } = limits
  return aedesBroker(
    { ...mqtt, secure: mqtts && (await secureListener(mqtts, log)) },
    {
      packetBytesMax: maxEnvelopeBytes + 1024,
      connectionsMax: connections,
      unproven: { all: unproven, perAddress: unprovenPerAddress },
      subscriptionsPerClientMax: subscriptionsPerClient,
      input: { messages: queuedPerClient, bytes: queuedBytesPerClient },
      rate: { messagesPerSecond, bytesPerSecond },
      keepAliveSecondsMax: 600,
      connectTimeoutMs,
      outgoing: defaultOutgoingLimits,
    },
  )
}

async function makeGateway(
  config: GatewayConfig,
  edge: Pick<GatewayOptions, 'trust' | 'broker' | 'records'>,
  log: Logger,
): Promise<Gateway> {
  return new Gateway({
    ...edge,
    verifier: nativeVerifier,
    boxes: await fileBoxStore(join(config.data, 'boxes')),
    mailboxes: await Mailboxes.open(join(config.data, 'mail')),
    log: await fileDecisionLog(config.data, log),
    trustTtlMs: config.trustTtlMs,
    onError: error => log.error({ err: error }, 'failure that no client can be told of'),
  })
}

async function secureListener(
  { host, port, certificate, key }: ListenAddress & TlsFiles,
  log: Logger,
): Promise<SecureListener> {
  const files = { certificate, key }
  const onReload = (error?: unknown): void => {
    if (error === undefined) log.info({ certificate }, 'new certificate in use')
    else log.error({ err: error }, 'certificate: the one from before stays in use')
  }
  return { host, port, files, pair: await readTlsPair(files), onReload }
}

/** Waits until one header beyond the checkpoint is verified, or one is known to be the newest. */
async function firstHeader(client: ChainClient, log: Logger, signal: AbortSignal): Promise<void> {
  for (;;) {
    if (signal.aborted) throw new MoteError('interrupted', 'stopped before the chain answered')
    try {
      await client.follower.sync()
      return
    } catch (error) {
      log.warn({ err: error }, 'the chain does not answer yet')
      await pause(retryDelayMs, signal)
    }
  }
}
