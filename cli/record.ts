/**
 * `mote record`: what devices report, on the chain. `add` signs as a device; `show` and `proof` prove a record from the genesis on, and
 * `verify` does the same later, without a network.
 */

import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { Milliseconds, type TransactionId } from '../chain/brands.ts'
import { isRecordTopic } from '../chain/contracts/contract.ts'
import { valuesJson } from '../chain/contracts/document.ts'
import { exitCodes } from '../chain/errors.ts'
import { checkpointFromGenesis } from '../chain/genesis.ts'
import type { PublicKey } from '../chain/keys.ts'
import { maxRecordPayloadBytes } from '../chain/limits.ts'
import { isMessageId } from '../chain/record-bodies.ts'
import { refusedBy } from '../chain/record-events.ts'
import { findKey } from '../chain/records.ts'
import { assert, MoteError, unwrap } from '../chain/result.ts'
import { type DeviceRecord, parseTransaction, type Qos, type TransactionBody } from '../chain/transaction.ts'
import { writeFileAtomic } from '../client/atomic-file.ts'
import { readGenesisFile } from '../client/genesis-file.ts'
import { statFile } from '../client/given-file.ts'
import { nativeVerifier } from '../client/native-crypto.ts'
import {
  decodeKeptRecord,
  encodeKeptRecord,
  encodeRecordProof,
  type KeptRecord,
  maxKeptRecordBytes,
  maxRecordProofBytes,
  type PlacedRecord,
  recordIdText,
  verifyRecordProof,
} from '../client/record-proof.ts'
import { valuesOfPayload } from '../client/record-values.ts'
import { signedBody } from '../client/submission.ts'
import type { ChainAccess } from '../devnet/access.ts'
import { layout } from '../devnet/layout.ts'
import { currentKeys, deviceNames, newestHead, openChain } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import { type Context, parseCount } from './context.ts'
import { requireContract } from './contract-names.ts'
import { type AsOf, provenance } from './output.ts'
import { findRecord, latencyText, quoted, recordJson, valuesText, vouchedText } from './placed-records.ts'
import { indexOf, provenBlock, provenLeaves } from './proven-blocks.ts'
import { recordListCommand } from './record-list.ts'

/** For commands that can have something decided. */
export const qosOption = {
  flags: '--qos <qos>',
  description: 'by which QoS a decision is to be published: 0, 1 (default) or 2',
  read: parseCount('qos', 0, 2),
}

interface AddOptions {
  readonly contract?: string
  readonly publish?: string
  readonly qos?: Qos
  readonly messageId?: string
}

export function recordCommands(family: Command, add: AddCommand): void {
  add<AddOptions>({
    parent: family,
    usage: 'add <name> <topic> <payload>',
    description: 'record what a device reports, signed by the device',
    options: [
      { flags: '--contract <contract>', description: 'a contract that decides about it' },
      { flags: '--publish <topic>', description: 'with --contract: where the decision is to be published' },
      qosOption,
      { flags: '--message-id <id>', description: 'what the device calls it' },
    ],
    exits: {
      [exitCodes.predicateFalse]: 'a guard of the topic rejects it, or the contract came to no decision',
    },
    notes:
      'The payload is recorded as it is, up to 8 KiB. If it is a JSON object, its numbers, booleans and texts become the values that contracts read. Everybody who reads the chain can read it.',
    action: addRecord,
  })
  add({
    parent: family,
    usage: 'show <id>',
    description: 'a record, proven under its certified block',
    action: show,
  })
  recordListCommand(family, add)
  add<{ out: string }>({
    parent: family,
    usage: 'keep <id>',
    description: 'write what is of a record alone to a file: its transaction and its receipt',
    options: [{ flags: '--out <file>', description: 'where to', required: true }],
    notes:
      'The shortest that is worth keeping where full nodes forget old blocks: `mote record proof --from` makes a proof of it, with the leaf hashes that they keep.',
    action: keep,
  })
  add<{ out: string; from?: string }>({
    parent: family,
    usage: 'proof [id]',
    description: 'write the proof of a record to a file, to be kept',
    options: [
      { flags: '--out <file>', description: 'where to', required: true },
      { flags: '--from <file>', description: 'of the record that `mote record keep` wrote there' },
    ],
    action: writeProof,
  })
  add<{ genesis?: string }>({
    parent: family,
    usage: 'verify <file>',
    description: 'verify the proof of a record, without a network',
    options: [{ flags: '--genesis <file>', description: "the chain's genesis (that of --dir)" }],
    notes:
      'Says who signed, and whether the signature was verified here. A device cannot deny what it signed; of a gateway-attested record it is the gateway that cannot.',
    action: verify,
  })
}

/** A topic of a record. Throws `usage`. */
export function recordTopic(text: string): string {
  if (isRecordTopic(text)) return text
  throw new MoteError(
    'usage',
    `topic: expected 1 to 128 printable ASCII characters without + and #, got '${text}'`,
  )
}

function recordOf(topic: string, payload: string, { messageId }: AddOptions): DeviceRecord {
  const bytes = Buffer.from(payload)
  if (bytes.length > maxRecordPayloadBytes)
    throw new MoteError(
      'too-large',
      `payload: expected at most ${maxRecordPayloadBytes} bytes, got ${bytes.length}`,
    )
  if (messageId !== undefined && !isMessageId(messageId))
    throw new MoteError('usage', 'message id: expected 1 to 64 printable ASCII characters')
  return {
    source: undefined,
    topic: recordTopic(topic),
    payload: Uint8Array.from(bytes),
    values: valuesOfPayload(jsonOrNothing(payload)),
    claimedTime: Milliseconds(Date.now()),
    messageId,
  }
}

function jsonOrNothing(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The record alone, or with a contract that is to decide about it. */
async function reportOf(
  directory: string,
  record: DeviceRecord,
  { contract, publish, qos = 1 }: AddOptions,
): Promise<TransactionBody> {
  if (contract !== undefined)
    return {
      type: 'contract.action',
      contract: await requireContract(directory, contract),
      input: { type: 'record', record },
      publishTopic: publish === undefined ? undefined : recordTopic(publish),
      qos,
    }
  if (publish !== undefined) throw new MoteError('usage', 'publish: expected --contract with it')
  return { type: 'record.one', record, qos }
}

async function addRecord(
  context: Context,
  [name = '', topic = '', payload = '']: readonly string[],
  options: AddOptions,
): Promise<number> {
  const record = recordOf(topic, payload, options)
  const access = await openChain(context)
  const body = await reportOf(access.directory, record, options)
  const { placed } = await findRecord(access, await submitReport(access, name, body, context.timeoutMs))
  const shown = await printRecord(context, access, placed)
  return shown.decided?.failed ? exitCodes.predicateFalse : exitCodes.ok
}

/**
 * Signs and sends until certified; the transaction's id. Throws `rule-violated` with guard and rule, which the certified receipt names.
 */
export async function submitReport(
  access: ChainAccess,
  name: string,
  body: TransactionBody,
  timeoutMs: number,
): Promise<TransactionId> {
  const { client } = access
  const keys = await currentKeys(access, name)
  const bytes = signedBody({ chainId: client.chainId, body, keys, time: client.records.time() })
  const { id } = unwrap(parseTransaction(bytes))
  try {
    await client.submit(bytes, { timeoutMs })
    return id
  } catch (error) {
    if (!(error instanceof MoteError) || error.code !== 'rule-violated') throw error
    const { height } = await client.pool.attempt(source => source.transactionStatus(id))
    if (height === undefined) throw error
    const block = await provenBlock(access, height)
    const event = block.receipts[indexOf(block, id)]?.events[0]
    if (event?.type !== 'record.refused') throw error
    throw new MoteError('rule-violated', `record: ${refusedBy(event)}`)
  }
}

type RecordJson = ReturnType<typeof recordJson>

/** Prints a record that was just proven; as it is in JSON. */
async function printRecord(context: Context, access: ChainAccess, placed: PlacedRecord): Promise<RecordJson> {
  const shown = recordJson(placed, await deviceNames(access))
  const asOf = newestHead(access)
  context.output.data({ ...shown, verified: true, asOf }, () => recordText(context, shown, asOf))
  return shown
}

function recordText({ output }: Context, shown: RecordJson, asOf: AsOf): string {
  const { device, signer, decided } = shown
  return [
    output.fields({
      id: shown.id,
      device: device.name ?? device.id,
      vouched: shown.vouched,
      'signed by': signer.name ?? signer.id,
      topic: shown.topic,
      values: quoted(shown.values),
      payload: quoted(shown.payload),
      'claimed time': shown.claimedTime,
      'claimed latency': latencyText(shown.claimedLatencyMs ?? undefined) ?? null,
      'message id': shown.messageId,
      QoS: shown.qos,
      recorded: `${shown.time}, at height ${shown.height}`,
      ...(decided && {
        contract: decided.contract,
        decision: decided.decision,
        'decision values': JSON.stringify(decided.values),
        'publish on': decided.publishTopic,
      }),
    }),
    `verified ${provenance(asOf)}`,
  ].join('\n')
}

async function show(context: Context, [text = '']: readonly string[]): Promise<number> {
  const access = await openChain(context)
  const { placed } = await findRecord(access, text)
  await printRecord(context, access, placed)
  return exitCodes.ok
}

/** What is of a record alone, out of its proven block. */
async function recordInBlock(access: ChainAccess, text: string): Promise<KeptRecord> {
  const { placed, block, index } = await findRecord(access, text)
  const { height, item } = placed
  const [transaction, receipt] = [block.transactions[index], block.receipts[index]]
  assert(transaction && receipt, 'a record was found in a transaction with a receipt')
  return { version: 1, height, item, transaction, receipt }
}

async function keep(
  context: Context,
  [text = '']: readonly string[],
  { out }: { readonly out: string },
): Promise<number> {
  const kept = await recordInBlock(await openChain(context), text)
  const content = encodeKeptRecord(kept)
  await writeFileAtomic(out, content)
  const answer = { id: text, file: out, bytes: content.length }
  context.output.data(
    answer,
    () => `${content.length} bytes in ${out}; \`mote record proof --from ${out} --out FILE\` proves it`,
  )
  return exitCodes.ok
}

/** The record of a file, or that of an id. Throws `usage` for neither, or for an id that is another one's. */
async function keptRecord(access: ChainAccess, text: string, from: string | undefined): Promise<KeptRecord> {
  if (from === undefined) return recordInBlock(access, text)
  await statFile(from, maxKeptRecordBytes)
  const kept = decodeKeptRecord(Uint8Array.from(await readFile(from)))
  const id = recordIdText({ transaction: kept.receipt.id, item: kept.item })
  if (text !== '' && text !== id) throw new MoteError('usage', `${from}: is of record ${id}`)
  return kept
}

async function writeProof(
  context: Context,
  [text = '']: readonly string[],
  { out, from }: { readonly out: string; readonly from?: string },
): Promise<number> {
  const access = await openChain(context)
  const { checkpoint } = access
  const kept = await keptRecord(access, text, from)
  const { leaves, path } = await provenLeaves(access, kept.height)
  const key = await signingKey(access, kept.transaction)
  const proof = encodeRecordProof(kept, leaves, { ...path, key })
  const placed = verifyRecordProof(proof, { checkpoint, verifier: nativeVerifier })
  await writeFileAtomic(out, proof)
  const answer = { id: recordIdText(placed), file: out, bytes: proof.length }
  context.output.data(
    answer,
    () => `${proof.length} bytes in ${out}; \`mote record verify ${out}\` needs no network`,
  )
  return exitCodes.ok
}

/** The key that a transaction names, if its owner's record lists it still. */
async function signingKey({ client }: ChainAccess, transaction: Uint8Array): Promise<PublicKey | undefined> {
  const parsed = parseTransaction(transaction)
  if (!parsed.ok) return undefined
  const { deviceId, keyId } = parsed.value.unsigned.signer
  const { value: signer } = await client.records.device(deviceId)
  const key = signer && findKey(signer, keyId)
  return key?.purpose === 'sign' ? key.key : undefined
}

async function verify(
  { output, directory }: Context,
  [file = '']: readonly string[],
  { genesis = layout.genesis(directory) }: { readonly genesis?: string },
): Promise<number> {
  await statFile(file, maxRecordProofBytes)
  const checkpoint = checkpointFromGenesis(await readGenesisFile(genesis))
  const record = verifyRecordProof(Uint8Array.from(await readFile(file)), {
    checkpoint,
    verifier: nativeVerifier,
  })
  const { device, signer, height, time, signatureVerified } = record
  const answer = {
    id: recordIdText(record),
    chainId: checkpoint.chainId,
    device,
    vouched: vouchedText(record),
    signer,
    signatureVerified,
    topic: record.record.topic,
    values: valuesJson(record.record.values),
    height,
    time: new Date(time).toISOString(),
    verified: true,
  }
  output.data(answer, () =>
    [
      output.fields({
        id: answer.id,
        device,
        vouched: answer.vouched,
        'signed by': `${signer.deviceId}, with key ${signer.keyId}`,
        signature: signatureVerified
          ? 'verified here'
          : 'judged by a quorum of the consenters; the key is not in the proof',
        topic: answer.topic,
        values: valuesText(record.record.values),
        recorded: `${answer.time}, at height ${height}`,
      }),
      `verified under chain ${checkpoint.chainId}`,
    ].join('\n'),
  )
  return exitCodes.ok
}
