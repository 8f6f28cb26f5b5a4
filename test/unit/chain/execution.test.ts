/** Execution of blocks: admission of transactions, time, replay, limits, determinism, and that no bytes make it throw. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type BlockProposal, devicesOf, receiptCodec, transactionViews } from '../../../chain/block.ts'
import { ChainId, LogIndex, Milliseconds, Term } from '../../../chain/brands.ts'
import { encode } from '../../../chain/codec.ts'
import { checkTransaction, clampBlockTime, executeBlock } from '../../../chain/execution.ts'
import { changesHash, headerHash } from '../../../chain/header.ts'
import { deviceIdOf, keyIdOf } from '../../../chain/keys.ts'
import {
  maxBlockTimeStepMs,
  maxExpiryAheadMs,
  maxTransactionBytes,
  maxTransactionChanges,
} from '../../../chain/limits.ts'
import { merkleRoot } from '../../../chain/merkle.ts'
import { groupIdOf, parametersCodec, stateKeyOf } from '../../../chain/records.ts'
import { unwrap } from '../../../chain/result.ts'
import { rootOf, update } from '../../../chain/state-tree.ts'
import { parseTransaction, type TransactionBody } from '../../../chain/transaction.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import {
  type Actor,
  actor,
  devices,
  encryptionKey,
  newcomer,
  operator,
  SampleLedger,
  second,
  startedAt,
} from './sample-ledger.ts'

const [device, other] = devices as [Actor, Actor]

function createGroup(name: string): TransactionBody {
  return { type: 'group.create', name, epochKeyHash: undefined }
}

function propose(time: number, transactions: readonly Uint8Array[] = []): BlockProposal {
  return { version: 1, type: 'block', time: Milliseconds(time), transactions }
}

function check(chain: SampleLedger, wire: Uint8Array, now = chain.time + second) {
  const result = checkTransaction(
    chain.ledger,
    unwrap(parseTransaction(wire)),
    Milliseconds(now),
    nativeVerifier,
  )
  return result.ok ? 'ok' : result.error.code
}

/** What both the mempool and execution must answer. */
function expectBoth(chain: SampleLedger, wire: Uint8Array, code: string): void {
  expect(check(chain, wire)).toBe(code)
  expect(chain.execute(wire).receipts[0]?.code).toBe(code)
}

describe('admission', () => {
  test('admission: takes a transaction that its signer may send', () => {
    const chain = new SampleLedger()
    expectBoth(chain, chain.sign(device, createGroup('a')), 'ok')
  })

  test('admission: refuses another chain', () => {
    const chain = new SampleLedger()
    const chainId = ChainId('00'.repeat(32))
    expectBoth(chain, chain.sign(device, createGroup('a'), { chainId }), 'wrong-chain')
  })

  test('admission: refuses from the expiry on, and an expiry over ten minutes ahead', () => {
    const chain = new SampleLedger()
    const at = (expiry: number) => chain.sign(device, createGroup('a'), { expiry: Milliseconds(expiry) })
    expectBoth(chain, at(chain.time + second), 'transaction-expired')
    expectBoth(chain, at(chain.time + second + maxExpiryAheadMs + 1), 'expiry-too-far')
    expectBoth(chain, at(chain.time + second + maxExpiryAheadMs), 'ok')
    const next = new SampleLedger()
    const soon = next.sign(device, createGroup('a'), { expiry: Milliseconds(next.time + second + 1) })
    expectBoth(next, soon, 'ok')
  })

  test('admission: refuses a signer that is not on the chain', () => {
    const chain = new SampleLedger()
    expectBoth(chain, chain.sign(newcomer, createGroup('a')), 'unknown-signer')
  })

  test('admission: refuses a key that is not one of the signer, and an encryption key', () => {
    const chain = new SampleLedger()
    const signer = (keyId: ReturnType<typeof keyIdOf>) => ({ signer: { deviceId: device.id, keyId } })
    const foreign = chain.sign(other, createGroup('a'), signer(keyIdOf(other.signer.publicKey)))
    expectBoth(chain, foreign, 'key-not-valid')
    chain.run(device, {
      type: 'key.add',
      subject: device.id,
      expectedVersion: 1,
      key: encryptionKey(3),
    })
    const sealed = chain.sign(device, createGroup('a'), signer(keyIdOf(encryptionKey(3).key)))
    expectBoth(chain, sealed, 'key-not-valid')
  })

  test('admission: refuses a signature by another key', () => {
    const chain = new SampleLedger()
    expectBoth(chain, chain.sign(device, createGroup('a'), { signedBy: other.signer }), 'bad-signature')
  })

  test('admission: refuses a transaction with one changed bit', () => {
    const chain = new SampleLedger()
    const wire = chain.sign(device, createGroup('a'))
    for (let at = 0; at < wire.length; at++) {
      const changed = Uint8Array.from(wire)
      changed[at]! ^= 1
      const { receipts } = executeBlock(chain.ledger, {
        proposal: propose(chain.time, [changed]),
        term: Term(1),
        index: LogIndex(1),
        verify: nativeVerifier,
      })
      expect(receipts[0]?.code, `byte ${at}`).not.toBe('ok')
    }
  })

  test('admission: refuses who is suspended, whose key is over, who may not', () => {
    const chain = new SampleLedger()
    expectBoth(chain, chain.sign(device, chain.grantBody()), 'not-authorised')
    chain.suspend(device)
    expectBoth(chain, chain.sign(device, createGroup('a')), 'signer-not-active')
  })

  test('admission: a key is valid from its beginning on', () => {
    const chain = new SampleLedger()
    const spare = actor(50)
    const add = { type: 'key.add', subject: device.id, expectedVersion: 1 } as const
    chain.run(device, { ...add, key: chain.newSigningKey(device, spare, chain.time + 5 * second) })
    const by = { ...spare, id: device.id }
    expect(check(chain, chain.sign(by, createGroup('a')), chain.time)).toBe('ok')
    expect(check(chain, chain.sign(by, createGroup('a')), chain.time + 4 * second)).toBe('key-not-valid')
  })

  test('admission: the newcomer is judged by its own inception key', () => {
    const chain = new SampleLedger()
    expect(check(chain, chain.sign(newcomer, chain.registerBody(newcomer)))).toBe('ok')
    expect(check(chain, chain.sign(device, chain.registerBody(newcomer)))).toBe('unknown-signer')
  })

  test('admission: reserved kinds and unreadable bytes get their receipts', () => {
    const chain = new SampleLedger()
    const wire = chain.sign(device, createGroup('a'))
    // The payload begins behind [array of 2][bin8, length]; its version and kind are the second and third byte.
    const altered = (offset: number, value: number) => {
      const bytes = Uint8Array.from(wire)
      bytes[3 + offset] = value
      return bytes
    }
    const codes = chain
      .execute(altered(1, 2), altered(2, 66), altered(2, 120), new Uint8Array(0), wire.slice(0, -1))
      .receipts.map(receipt => receipt.code)
    expect(codes).toEqual(['unknown-version', 'kind-not-supported', 'malformed', 'malformed', 'malformed'])
  })

  test('views of a block: what each transaction is and how it ended, unreadable ones among them', () => {
    const chain = new SampleLedger()
    const transactions = [chain.sign(device, createGroup('a')), new Uint8Array(0)]
    const { receipts } = chain.execute(...transactions)
    expect(transactionViews({ transactions, receipts })).toMatchObject([
      { index: 0, id: receipts[0]?.id, kind: 'group.create', signer: device.id, code: 'ok' },
      { index: 1, id: receipts[1]?.id, kind: 'unreadable', signer: undefined, code: 'malformed' },
    ])
  })
})

describe('replay', () => {
  test('replay: the same bytes again are a duplicate, in the same block and later', () => {
    const chain = new SampleLedger()
    const wire = chain.sign(device, createGroup('a'))
    const first = chain.execute(wire, wire)
    expect(first.receipts.map(receipt => receipt.code)).toEqual(['ok', 'duplicate'])
    expect(first.executed.map(({ index }) => index)).toEqual([0])
    const { stateRoot, replayRoot } = chain.ledger.header
    expectBoth(chain, wire, 'duplicate')
    expect(chain.ledger.header).toMatchObject({ stateRoot, replayRoot })
  })

  test('replay: past its expiry it is expired, not a duplicate, and the id is forgotten', () => {
    const chain = new SampleLedger()
    const wire = chain.sign(device, createGroup('a'))
    chain.execute(wire)
    chain.time += 58 * second
    expectBoth(chain, wire, 'transaction-expired')
    expect(chain.ledger.replay.count).toBe(1)
    chain.time += second
    chain.execute()
    expect(chain.ledger.replay.count).toBe(0)
  })

  test('replay: a failed transaction counts, so its outcome is final', () => {
    const chain = new SampleLedger()
    const wire = chain.sign(device, { ...chain.grantBody() })
    const block = chain.execute(wire)
    expect(block.receipts[0]?.code).toBe('not-authorised')
    expect(block.executed).toHaveLength(1)
    expect(chain.execute(wire).receipts[0]?.code).toBe('duplicate')
  })

  test('replay: a stranger cannot void a transaction by sending its payload with a bad signature', () => {
    const chain = new SampleLedger()
    const wire = chain.sign(device, createGroup('a'))
    const forged = Uint8Array.from(wire)
    forged[forged.length - 1]! ^= 1
    const block = chain.execute(forged)
    expect(block.receipts[0]?.code).toBe('bad-signature')
    expect(block.executed).toEqual([])
    expect(block.receipts[0]?.id).toBe(unwrap(parseTransaction(wire)).id)
    expect(chain.execute(wire).receipts[0]?.code).toBe('ok')
  })

  test('replay: full means refuse, and room comes back with time', () => {
    const chain = new SampleLedger({ limits: { unexpiredTransactions: 2 } })
    const wires = ['a', 'b', 'c'].map(name =>
      chain.sign(device, createGroup(name), { expiry: Milliseconds(chain.time + 5 * second) }),
    )
    expect(chain.execute(...wires).receipts.map(receipt => receipt.code)).toEqual(['ok', 'ok', 'overloaded'])
    expectBoth(chain, wires[2]!, 'overloaded')
    chain.time += 5 * second
    expect(chain.run(device, createGroup('d'))).toBe('ok')
  })
})

describe('blocks', () => {
  test('block: transactions over the limits of the chain are left for another block', () => {
    const chain = new SampleLedger({ limits: { blockTransactions: 1 } })
    const wires = ['a', 'b'].map(name => chain.sign(device, createGroup(name)))
    expect(chain.execute(...wires).receipts.map(receipt => receipt.code)).toEqual(['ok', 'overloaded'])
    expect(chain.execute(wires[1]!).receipts[0]?.code).toBe('ok')
    const small = new SampleLedger({ limits: { blockBytes: maxTransactionBytes } })
    const many = Array.from({ length: 80 }, (_, i) => small.sign(operator, createGroup(`g${i}`)))
    const fitting = Math.floor(maxTransactionBytes / many[10]!.length)
    const codes = small.execute(...many).receipts.map(receipt => receipt.code)
    expect(codes.indexOf('overloaded')).toBeGreaterThanOrEqual(fitting)
    expect(codes.at(-1)).toBe('overloaded')
    const narrow = new SampleLedger({ limits: { blockChanges: maxTransactionChanges + 2 } })
    const both = ['a', 'b'].map(name => narrow.sign(device, createGroup(name)))
    expect(narrow.execute(...both).receipts.map(receipt => receipt.code)).toEqual(['ok', 'overloaded'])
  })

  test('block: time is the clock of the leader between the parent and a day later', () => {
    const at = (time: number) => clampBlockTime(Milliseconds(time), Milliseconds(startedAt))
    expect(at(0)).toBe(startedAt)
    expect(at(startedAt + 5)).toBe(startedAt + 5)
    expect(at(startedAt + maxBlockTimeStepMs + 1)).toBe(startedAt + maxBlockTimeStepMs)
    const chain = new SampleLedger()
    const run = (time: number) =>
      executeBlock(chain.ledger, {
        proposal: propose(time),
        term: Term(1),
        index: LogIndex(1),
        verify: 'skip',
      }).header.time
    expect([run(1), run(startedAt * 2)]).toEqual([startedAt, startedAt + maxBlockTimeStepMs])
  })

  test('block: a heartbeat moves time and executes nothing', () => {
    const chain = new SampleLedger()
    const transactions = [chain.sign(device, createGroup('a'))]
    const block = executeBlock(chain.ledger, {
      proposal: { version: 1, type: 'heartbeat', time: Milliseconds(startedAt + 5), transactions },
      term: Term(4),
      index: LogIndex(1),
      verify: nativeVerifier,
    })
    expect(block.receipts).toEqual([])
    expect(block.changes).toEqual([])
    expect(block.header).toMatchObject({ height: 1, term: 4, time: startedAt + 5 })
    expect(block.header.stateRoot).toBe(chain.ledger.header.stateRoot)
  })

  test('block: the header binds transactions, receipts, changes, parent and history', () => {
    const chain = new SampleLedger()
    const parent = chain.ledger
    const wire = chain.sign(device, createGroup('a'))
    const block = chain.execute(wire)
    const { header } = block
    expect(header.transactionsRoot).toBe(merkleRoot([wire]))
    expect(header.receiptsRoot).toBe(merkleRoot(block.receipts.map(each => encode(receiptCodec, each))))
    expect(header.changesHash).toBe(changesHash(block.changes))
    expect(header.previousHash).toBe(parent.headerHash)
    expect(header.historyRoot).toBe(merkleRoot([Buffer.from(parent.headerHash, 'hex')]))
    expect(header.stateRoot).toBe(rootOf(update(parent.tree, block.writes)))
    expect(header.signersHash).toBe(parent.header.nextSignersHash)
    expect(block.headerHash).toBe(headerHash(header))
    const id = groupIdOf(device.id, 'a')
    const keys = [stateKeyOf.group(id), stateKeyOf.members(id), stateKeyOf.memberships(device.id)]
    expect(block.changes).toEqual(keys.sort())
  })

  test('block: a failed transaction leaves no write, and the next one sees none', () => {
    const chain = new SampleLedger()
    chain.run(device, createGroup('a'))
    const group = groupIdOf(device.id, 'a')
    // The first of the two has joined by the time the second is found missing.
    const missing = Array.from({ length: 50 }, (_, i) => actor(100 + i)).find(({ id }) => id > other.id)!
    const members = [other.id, missing.id]
    const failing = chain.sign(device, { type: 'group.add', group, membershipVersion: 1, members })
    const { stateRoot } = chain.ledger.header
    const block = chain.execute(failing)
    expect(block.receipts[0]).toMatchObject({ code: 'unknown-subject', events: [] })
    expect(block.changes).toEqual([])
    expect(block.header.stateRoot).toBe(stateRoot)
    expect(chain.memberships(other.id)).toEqual([])
  })

  test('block: two ledgers that execute one log have the same header at every height', () => {
    const chain = new SampleLedger()
    const twin = new SampleLedger()
    const log: Uint8Array[][] = []
    for (let height = 0; height < 20; height++) {
      const names = Array.from({ length: height % 4 }, (_, i) => `g${height}-${i}`)
      log.push([
        ...names.map((name, i) => chain.sign(devices[i % devices.length]!, createGroup(name))),
        chain.sign(operator, chain.grantBody()),
        Uint8Array.of(height),
      ])
      chain.time += second
    }
    chain.time = startedAt
    for (const transactions of log) {
      const one = chain.execute(...transactions)
      const two = twin.execute(...transactions)
      expect(two.headerHash).toBe(one.headerHash)
    }
  })

  test('block: an old ledger can be executed upon again, with the same result', () => {
    const chain = new SampleLedger()
    const before = chain.ledger
    const wires = ['a', 'b', 'c'].map(name => chain.sign(device, createGroup(name)))
    const run = (transactions: readonly Uint8Array[], ledger = before) =>
      executeBlock(ledger, {
        proposal: propose(startedAt + second, transactions),
        term: Term(1),
        index: LogIndex(1),
        verify: nativeVerifier,
      })
    const first = run([wires[0]!, wires[1]!])
    const fork = run([wires[2]!, wires[0]!])
    expect(fork.receipts.map(receipt => receipt.code)).toEqual(['ok', 'ok'])
    const again = run([wires[0]!, wires[1]!])
    expect(again.headerHash).toBe(first.headerHash)
    expect(run([wires[2]!], first.ledger).receipts[0]?.code).toBe('ok')
    expect(run([wires[0]!], first.ledger).receipts[0]?.code).toBe('duplicate')
    expect(run([wires[1]!], fork.ledger).receipts[0]?.code).toBe('ok')
  })

  test('block: a node without the rules that the chain asks for stops', () => {
    const chain = new SampleLedger()
    const parameters = { ...chain.ledger.parameters, executionVersion: 2 }
    const tree = update(
      chain.ledger.tree,
      new Map([[stateKeyOf.parameters(), encode(parametersCodec, parameters)]]),
    )
    const ledger = { ...chain.ledger, tree, parameters }
    const input = { proposal: propose(startedAt), term: Term(1), index: LogIndex(1), verify: 'skip' as const }
    expect(() => executeBlock(ledger, input)).toThrow('execution version')
  })

  test('block: no bytes in a proposal make execution throw', () => {
    const chain = new SampleLedger()
    const valid = [
      chain.sign(device, createGroup('a')),
      chain.sign(operator, chain.grantBody()),
      chain.sign(newcomer, chain.registerBody(newcomer)),
    ]
    const mutated = fc
      .tuple(fc.constantFrom(...valid), fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 4 }))
      .map(([wire, edits]) => {
        const bytes = Uint8Array.from(wire)
        for (const [at, value] of edits) bytes[at % bytes.length] = value
        return bytes
      })
    const transaction = fc.oneof(fc.uint8Array({ maxLength: 64 }), mutated)
    fc.assert(
      fc.property(fc.array(transaction, { maxLength: 5 }), fc.nat(), (transactions, time) => {
        const block = executeBlock(chain.ledger, {
          proposal: propose(time, transactions),
          term: Term(1),
          index: LogIndex(1),
          // Without signatures the bytes reach every executor.
          verify: 'skip',
        })
        expect(block.receipts).toHaveLength(transactions.length)
        for (const receipt of block.receipts) encode(receiptCodec, receipt)
      }),
      { numRuns: 500, seed: 1 },
    )
  })

  test('block: the history of a device lists what it signed and what it is about (Qiu A7)', () => {
    const chain = new SampleLedger()
    const parse = (who: Actor, body: TransactionBody) =>
      devicesOf(unwrap(parseTransaction(chain.sign(who, body))).unsigned)
    const revoke = { type: 'identity.revoke', subject: device.id, reason: '' } as const
    expect(parse(operator, revoke)).toEqual([operator.id, device.id])
    const group = groupIdOf(device.id, 'a')
    const add = { type: 'group.add', group, membershipVersion: 1, members: [other.id] } as const
    expect(parse(device, add)).toEqual([device.id, other.id])
    expect(parse(newcomer, chain.registerBody(newcomer))).toEqual([deviceIdOf(newcomer.signer.publicKey)])
  })
})
