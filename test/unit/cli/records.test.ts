/** `mote record` and `mote contract` on a chain in memory: what is proven, refused, listed, kept and verified without a network. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { claimedLatencyMs, latencyText, valuesText } from '../../../cli/placed-records.ts'
import { type ServedDevnet, serveDevnet } from '../../support/served-devnet.ts'
import { repositoryRoot } from '../../support/source-files.ts'
import { keysOf } from '../../support/test-chain.ts'

const sensor = keysOf('meter')
const fire = join(repositoryRoot, 'examples/fire-index.json')
const inputs = (CS: number) => ({ CS, P: 20, H0: 40, H1: 45, H2: 50, H3: 55, H4: 60 })
let devnet: ServedDevnet

beforeAll(async () => {
  devnet = await serveDevnet({ devices: [sensor.name], startTime: Date.now() - 45_000 })
  await devnet.describe({ trustTtlMs: 600_000 })
  await devnet.keep(sensor)
})
afterAll(() => devnet[Symbol.asyncDispose]())

async function json(...args: readonly string[]) {
  const { code, stdout, notes } = await devnet.mote(...args, '--json')
  expect(code, notes).toBe(0)
  return JSON.parse(stdout)
}

function contractFile(name: string, document: object): string {
  const file = join(devnet.directory, `${name}.json`)
  writeFileSync(file, JSON.stringify({ name, version: 1, decide: [{ say: 'done' }], ...document }))
  return file
}

const record = (payload: string, ...more: readonly string[]) => [
  'record',
  'add',
  'meter',
  'tank',
  payload,
  ...more,
]

test('values: what a device reports moves no cursor and turns no line around', () => {
  const value = 'a"\u001b[2J\u009b31m\u202e\u2028é'
  const shown = valuesText([{ name: 'note', value }])
  expect(shown).toBe(String.raw`note "a\"\u001b[2J\u009b31m\u202e\u2028é"`)
  expect(JSON.parse(shown.slice('note '.length))).toBe(value)
})

describe('contract', () => {
  test('contract deploy: its address, again the same; show and list prove it', async () => {
    const { address } = await json('contract', 'deploy', fire)
    expect(await json('contract', 'deploy', fire)).toMatchObject({ address, name: 'fire-index' })
    const shown = await json('contract', 'show', 'fire-index')
    expect(shown).toMatchObject({
      address,
      status: 'active',
      decisions: 0,
      state: { last: 0, runs: 0 },
      verified: true,
    })
    expect(shown.contract.let).toContain('r = 0.7')
    const { contracts, complete } = await json('contract', 'list')
    expect(contracts).toMatchObject([{ address, name: 'fire-index' }])
    expect(complete).toBe(false)
  })

  test('contract call: its decision, and 5 where it comes to none; the state is read by proof', async () => {
    const call = (CS: number) =>
      devnet.mote(
        'contract',
        'call',
        'fire-index',
        '--from',
        'meter',
        '--values',
        JSON.stringify(inputs(CS)),
        '--json',
      )
    const decided = await call(500)
    expect(decided.code, decided.notes).toBe(0)
    expect(JSON.parse(decided.stdout)).toMatchObject({
      decision: 'low',
      values: { DI: 29.037075 },
      event: { event: 0 },
    })
    const failed = await call(0)
    expect(failed.code).toBe(5)
    expect(JSON.parse(failed.stdout)).toMatchObject({
      decision: 'failed: division-by-zero in DI',
      failed: true,
    })
    expect(await json('contract', 'show', 'fire-index')).toMatchObject({
      decisions: 1,
      state: { last: 29.037075, runs: 1 },
    })
  })

  test('contract: a name of a device is looked up; what is not there is named; a retired one decides no more', async () => {
    const file = contractFile('mine', { callers: ['meter'] })
    expect(await json('contract', 'deploy', file)).toMatchObject({ contract: { callers: [sensor.id] } })
    expect(await json('contract', 'retire', 'mine')).toMatchObject({ status: 'retired' })
    const gone = await devnet.mote('contract', 'call', 'mine', '--from', 'meter')
    expect(gone).toMatchObject({ code: 5, stdout: expect.stringContaining('failed: unknown-contract') })
    for (const [args, exit, said] of [
      [['deploy', file], 1, 'already-exists'],
      [['deploy', contractFile('theirs', { callers: ['nobody'] })], 2, 'contract-invalid: callers[1]'],
      [['show', 'nothing'], 3, "not-found: contract: 'nothing' is no name here"],
      [['show', 'ab'.repeat(32)], 3, 'unknown-contract'],
      [['call', 'mine', '--from', 'meter', '--values', '[1]'], 1, 'malformed: values'],
      [['call', 'mine', '--from', 'meter', '--values', '{'], 2, 'usage: values'],
      [['guard', 'a/#'], 2, 'usage: topic'],
    ] as const) {
      const { code, notes } = await devnet.mote('contract', ...args)
      expect(notes, args.join(' ')).toContain(`mote: ${said}`)
      expect(code, args.join(' ')).toBe(exit)
    }
  })
})

describe('record', () => {
  test('record add: recorded, signed by the device, with the values of its payload; show proves it', async () => {
    const added = await json(
      ...record('{"level":3,"dry":true,"deep":{"a":1},"2nd":4}', '--message-id', 'm-1'),
    )
    expect(added).toMatchObject({
      device: { name: 'meter', id: sensor.id },
      vouched: 'device-signed',
      topic: 'tank',
      values: { dry: true, level: 3 },
      payload: '{"level":3,"dry":true,"deep":{"a":1},"2nd":4}',
      messageId: 'm-1',
      decided: null,
      verified: true,
    })
    const { asOf: _, ...same } = await json('record', 'show', added.id)
    expect(added).toMatchObject(same)
    expect(await json(...record('not JSON'))).toMatchObject({ values: {}, payload: 'not JSON' })
  })

  test('record add --contract: recorded and decided (Altaş D4)', async () => {
    const args = [
      'record',
      'add',
      'meter',
      'forest/north',
      JSON.stringify(inputs(30)),
      '--contract',
      'fire-index',
    ]
    const { stdout, code, notes } = await devnet.mote(...args, '--publish', 'fire/north')
    expect(code, notes).toBe(0)
    expect(stdout).toMatch(/decision +extreme\n/)
    expect(stdout).toMatch(/publish on +fire\/north\n/)
    expect((await devnet.mote(...args, '--publish', 'door/1')).code).toBe(5)
  })

  test('record add: what a guard rejects is refused, with guard and rule', async () => {
    const { address } = await json(
      'contract',
      'deploy',
      contractFile('range', { inputs: { level: 'number' }, rules: ['range = level >= 0'] }),
    )
    expect(await json('contract', 'guard', 'tank', 'range')).toMatchObject({ guards: [address], version: 1 })
    const { code, notes } = await devnet.mote(...record('{"level":-1}'))
    expect(notes).toContain(`mote: rule-violated: record: guard ${address}: range`)
    expect(code).toBe(5)
    await json('contract', 'guard', 'tank')
    await json(...record('{"level":-1}'))
  })

  test('record list: proven rows, newest last, by topic and time; drawn, as CSV and as JSON Lines', async () => {
    const { records, complete } = await json('record', 'list', '--device', 'meter')
    expect(complete).toBe(false)
    expect(records.map(({ topic }: { topic: string }) => topic)).toEqual([
      'tank',
      'tank',
      'forest/north',
      'forest/north',
      'tank',
    ])
    const tank = ['record', 'list', '--device', 'meter', '--topic', 'tank']
    expect((await json(...tank)).records).toHaveLength(3)
    expect((await json(...tank, '--limit', '1')).records[0].values).toEqual({ level: -1 })
    expect((await json(...tank, '--from', records[4].time)).records).toHaveLength(1)
    expect((await json(...tank, '--to', records[1].time)).records).toHaveLength(1)
    const csv = (await devnet.mote(...tank, '--csv')).stdout.trimEnd().split('\n')
    expect(csv[0]).toBe('time,latencyMs,height,id,device,vouched,topic,value.dry,value.level,decision')
    expect(csv.map(line => line.split(',').slice(5, 9).join())).toEqual([
      'vouched,topic,value.dry,value.level',
      'device-signed,tank,true,3',
      'device-signed,tank,,',
      'device-signed,tank,,-1',
    ])
    const lines = (await devnet.mote(...tank, '--jsonl')).stdout.trimEnd().split('\n')
    expect(lines.map(line => JSON.parse(line).values)).toEqual([{ dry: true, level: 3 }, {}, { level: -1 }])
    const plot = (await devnet.mote(...tank, '--plot', 'level')).stdout
    expect(plot).toMatch(/^ +3\.00000 \|\*\n/)
    expect(plot).toMatch(/-1\.00000 \| {59}\*\n/)
    expect((await devnet.mote(...tank, '--csv', '--jsonl')).code).toBe(2)
  })

  test('record list --csv: a value that is named as a column has one of its own', async () => {
    const { topic } = await json('record', 'add', 'meter', 'clash', '{"time":1,"height":7,"decision":"none"}')
    const listed = await devnet.mote('record', 'list', '--device', 'meter', '--topic', topic, '--csv')
    const [heading = '', row = ''] = listed.stdout.trimEnd().split('\n')
    const names = heading.split(',')
    expect(new Set(names).size).toBe(names.length)
    const cell = (name: string) => row.split(',')[names.indexOf(name)]
    expect(['time', 'height', 'decision'].map(name => cell(`value.${name}`))).toEqual(['1', '7', 'none'])
    expect(cell('decision')).toBe('')
  })

  test('record add, contract call: ask for a QoS, 1 by default, which the record and the decision have', async () => {
    const payload = JSON.stringify(inputs(30))
    const add = (...more: readonly string[]) => json('record', 'add', 'meter', 'quality', payload, ...more)
    expect(await add()).toMatchObject({ qos: 1, decided: null })
    expect(await add('--qos', '0')).toMatchObject({ qos: 0 })
    expect(await add('--contract', 'fire-index', '--qos', '2')).toMatchObject({ qos: 2, decided: { qos: 2 } })
    const call = ['contract', 'call', 'fire-index', '--from', 'meter', '--values', payload]
    expect(await json(...call, '--qos', '0')).toMatchObject({ decision: 'extreme', qos: 0 })
    const refused = await devnet.mote(...call, '--qos', '3')
    expect(refused).toMatchObject({ code: 2, notes: expect.stringContaining('from 0 to 2') })
  })

  test('record list: what a device has written gives a terminal no commands, and as JSON is what it was', async () => {
    const said = { text: '\u001b[2J\u009b31m\u202e', line: 'a\r\nb', formula: '\t=1+1' }
    const { topic } = await json('record', 'add', 'meter', 'commands', JSON.stringify(said))
    const list = (...form: readonly string[]) =>
      devnet.mote('record', 'list', '--device', 'meter', '--topic', topic, ...form)
    const shown = await Promise.all([[], ['--csv'], ['--jsonl'], ['--json']].map(form => list(...form)))
    for (const { stdout } of shown) expect(stdout).not.toMatch(/[^\P{Cc}\n]|\u202e/u)
    const [, csv, lines, whole] = shown.map(({ stdout }) => stdout.trimEnd())
    expect(csv!.split('\n')).toHaveLength(2)
    expect(csv).toContain('\\t=1+1,a\\u000d\\nb,\\u001b[2J\\u009b31m\\u202e,')
    expect(JSON.parse(lines!).values).toEqual(said)
    expect(JSON.parse(whole!).records[0].values).toEqual(said)
  })

  test('record: how long after the time that the device claims its block came; without a claim none', () => {
    const latency = (claimedTime: number | undefined) => claimedLatencyMs({ claimedTime, time: 5_000 })
    expect([4_250, 5_000, 6_000, 0, undefined].map(latency)).toEqual([750, 0, -1_000, 5_000, undefined])
    expect([750, -1_000, -90, 3_600_000, undefined].map(latencyText)).toEqual([
      '750 ms',
      '-1.0 s',
      '-90 ms',
      '60 min',
      undefined,
    ])
  })

  test('record show, list: they print the claimed latency, in JSON in milliseconds', async () => {
    const before = devnet.chain.time
    const { id, time, claimedTime, claimedLatencyMs: shown } = await json(...record('{"late":1}'))
    expect(shown).toBe(Date.parse(time) - Date.parse(claimedTime))
    expect(Date.parse(time)).toBeGreaterThanOrEqual(before)
    const text = latencyText(shown)
    const ofShow = (await devnet.mote('record', 'show', id)).stdout
    expect(ofShow).toMatch(new RegExp(`^claimed latency +${text}$`, 'm'))
    const rows = (await devnet.mote('record', 'list', '--device', 'meter', '--limit', '1')).stdout.split('\n')
    expect(rows[0]).toMatch(/^recorded +latency +height /)
    expect(rows[1]).toContain(`  ${text}  `)
    const listed = await devnet.mote('record', 'list', '--device', 'meter', '--limit', '1', '--csv')
    expect(listed.stdout.split('\n')[1]!.split(',')[1]).toBe(String(shown))
  })

  test('record proof: verifies without a network, and with one bit changed not', async () => {
    const { id } = await json(...record('{"level":7}'))
    devnet.chain.append()
    const file = join(devnet.directory, 'level.proof')
    await json('record', 'proof', id, '--out', file)
    for (const source of devnet.sources) source.failure = new Error('no network') as never
    try {
      expect(await json('record', 'verify', file)).toMatchObject({
        id,
        device: sensor.id,
        vouched: 'device-signed',
        signatureVerified: true,
        values: { level: 7 },
      })
      const proof = readFileSync(file)
      for (let at = 0; at < proof.length; at += 61) {
        const changed = Uint8Array.from(proof)
        changed[at]! ^= 1
        writeFileSync(file, changed)
        const { code, notes } = await devnet.mote('record', 'verify', file)
        expect(notes, `byte ${at}`).toMatch(/mote: (malformed|bad-\w+|wrong-chain)/)
        expect(code).not.toBe(0)
      }
    } finally {
      for (const source of devnet.sources) source.failure = undefined
    }
  })

  test('record keep: what was kept is proven out of leaf hashes, where every full node has forgotten the block', async () => {
    const [first, second] = [await json(...record('{"level":41}')), await json(...record('{"level":42}'))]
    await json(...record('{"level":43}'))
    const [file, proof] = ['level.record', 'forgotten.proof'].map(name => join(devnet.directory, name))
    expect(await json('record', 'keep', second.id, '--out', file!)).toMatchObject({ id: second.id, file })
    expect(readFileSync(file!).length).toBeLessThan(600)
    const list = ['record', 'list', '--device', 'meter', '--topic', 'tank']
    const before = await json(...list)
    expect(before.forgotten).toBe(0)
    // A node that forgets is no worse: the next one is asked.
    devnet.sources[0]!.forgottenUpTo = second.height
    expect(await json('record', 'show', first.id)).toMatchObject({ values: { level: 41 } })
    for (const source of devnet.sources) source.forgottenUpTo = second.height
    try {
      const { code, notes } = await devnet.mote('record', 'show', second.id)
      expect(notes).toMatch(/mote: forgotten: block \d+: only its leaf hashes/)
      expect(code).toBe(3)
      const after = await devnet.mote(...list, '--json')
      const { records, forgotten } = JSON.parse(after.stdout)
      expect(records).toMatchObject([{ values: { level: 43 } }])
      expect(forgotten).toBeGreaterThanOrEqual(before.records.length - 1)
      expect(after.notes).toContain(
        `${forgotten} older transactions stand in blocks that every full node has forgotten which answered`,
      )

      expect(await json('record', 'proof', '--from', file!, '--out', proof!)).toMatchObject({ id: second.id })
      expect(await json('record', 'verify', proof!)).toMatchObject({
        id: second.id,
        vouched: 'device-signed',
        signatureVerified: true,
        values: { level: 42 },
      })
      const wrong = await devnet.mote('record', 'proof', first.id, '--from', file!, '--out', proof!)
      expect(wrong).toMatchObject({ code: 2, notes: expect.stringContaining(`is of record ${second.id}`) })
      // Leaf hashes of a liar are passed over, and if there are no others refused.
      const [liar, ...others] = devnet.sources
      liar!.tamperLeaves = leaves => ({ ...leaves, transactions: [new Uint8Array(32)] })
      await json('record', 'proof', '--from', file!, '--out', proof!)
      for (const source of others) source.tamperLeaves = liar!.tamperLeaves
      const lied = await devnet.mote('record', 'proof', '--from', file!, '--out', proof!)
      expect(lied.notes).toContain('leaf hashes of transactions: not those of the header')
      for (const source of devnet.sources) source.tamperLeaves = leaves => leaves
      const tampered = Uint8Array.from(readFileSync(file!))
      tampered[tampered.length >> 1]! ^= 1
      writeFileSync(file!, tampered)
      const refused = await devnet.mote('record', 'proof', '--from', file!, '--out', proof!)
      expect(refused.notes).toMatch(/mote: (malformed|bad-proof): (kept )?record/)
    } finally {
      for (const source of devnet.sources) source.forgottenUpTo = 0
    }
  })

  test('record show: one that a full node has rewritten is refused', async () => {
    const { id } = await json(...record('{"level":8}'))
    const honest = devnet.sources.map(source => source.block)
    for (const source of devnet.sources)
      source.block = async height => {
        const block = await honest[0]!.call(source, height)
        const transactions = block.transactions.map(bytes => {
          const changed = Uint8Array.from(bytes)
          changed[changed.length - 80]! ^= 1
          return changed
        })
        return { ...block, transactions }
      }
    try {
      const { code, notes } = await devnet.mote('record', 'show', id)
      expect(notes).toContain('bad-proof')
      expect(code).toBe(1)
    } finally {
      for (const [i, source] of devnet.sources.entries()) source.block = honest[i]!
    }
  })
})
