/** The table of requests, and the two ends that are made from it. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Height } from '../../../chain/brands.ts'
import { encode } from '../../../chain/codec.ts'
import { MoteError } from '../../../chain/result.ts'
import { protocols } from '../../../node/network/protocols.ts'
import {
  joining,
  memberRequests,
  queries,
  type RequestRow,
  registryReports,
} from '../../../node/network/request-table.ts'
import { ask, encodeRequest, requestHandler } from '../../../node/network/requests.ts'
import type { Caller, OutgoingRequest, RequestHandler } from '../../../node/ports.ts'
import { readSourceFiles, repositoryRoot } from '../../support/source-files.ts'
import { keysOf } from '../../support/test-chain.ts'

const tables = { query: queries, join: joining, member: memberRequests, registry: registryReports }
const rows = Object.values(tables).flatMap(table => Object.values(table)) as unknown as RequestRow<
  unknown,
  unknown
>[]
const peer = keysOf('peer').id

function callerOf(standing: 'nobody' | 'proven' | 'confirmed', charged: number[] = []): Caller {
  return {
    deviceId: standing === 'confirmed' ? peer : undefined,
    isProven: standing !== 'nobody',
    remoteAddress: 'memory',
    charge: cost => void charged.push(cost),
  }
}

/** A network of one peer, which this handler is. */
function networkTo(handler: RequestHandler, caller = callerOf('confirmed')) {
  return { request: (_to: unknown, { body }: OutgoingRequest) => handler(caller, body) }
}

const codeOf = (asking: Promise<unknown>) =>
  asking.then(
    () => 'ok',
    error => (error as MoteError).code,
  )

const { read, snapshot } = memberRequests
const readHandler = requestHandler({ read }, { read: () => ({ index: 7 }) })

describe('requests', () => {
  it('requests: a page of few headers costs less than a whole one, and none is free', async () => {
    const charged: number[] = []
    const { headers } = queries
    const network = networkTo(
      requestHandler({ headers }, { headers: () => [] }),
      callerOf('confirmed', charged),
    )
    for (const limit of [0, 1, 26, 512]) await ask(network, peer, headers, { from: Height(1), limit }, 1_000)
    expect(charged).toEqual([1, 1, 2, 20])
  })

  it('requests: kinds and names of a protocol are there once', () => {
    for (const [protocol, table] of Object.entries(tables)) {
      const of = rows.filter(row => row.protocol === protocol)
      expect(of).toHaveLength(Object.keys(table).length)
      for (const key of ['kind', 'name'] as const)
        expect(new Set(of.map(row => row[key])).size).toBe(of.length)
    }
  })

  it('requests: who has proven nothing may ask for what proves itself, and may join', () => {
    const open = rows.filter(({ from }) => from === 'anyone').map(({ name }) => name)
    expect(open).toEqual(['head', 'own-status', 'coordination', 'message'])
  })

  it('requests: what is believed without a proof is taken of confirmed peers alone', () => {
    const believed = rows.filter(({ of }) => of === 'confirmed').map(({ name }) => name)
    expect(believed).toEqual(
      'submit transaction status history message snapshot amnesia-check read heartbeat address assignment'.split(
        ' ',
      ),
    )
  })

  it('requests: what one end sends is what the other end gets, both ways', async () => {
    const served = requestHandler(
      { read, snapshot },
      {
        read: (_, { deviceId }) => ({ index: deviceId === peer ? 7 : 0 }),
        snapshot: ({ lastIncludedIndex, chunk }) => Uint8Array.of(lastIncludedIndex, chunk),
      },
    )
    expect(await ask(networkTo(served), peer, read, {}, 1)).toEqual({ index: 7 })
    const place = { lastIncludedIndex: 3, chunk: 9 }
    expect(await ask(networkTo(served), peer, snapshot, place, 1)).toEqual(Uint8Array.of(3, 9))
  })

  it('requests: the row says who may ask, and what it is charged', async () => {
    const charged: number[] = []
    const { headers, coordination } = queries
    const served = requestHandler({ headers, coordination }, { headers: () => [], coordination: () => [] })
    const page = { from: Height(1), limit: 512 }
    const asked = (standing: Parameters<typeof callerOf>[0]) =>
      codeOf(ask(networkTo(served, callerOf(standing, charged)), peer, headers, page, 1))
    expect([await asked('nobody'), await asked('proven'), await asked('confirmed')]).toEqual([
      'hello-required',
      'not-ready',
      'ok',
    ])
    await ask(networkTo(served, callerOf('nobody', charged)), peer, coordination, {}, 1)
    await expect(served(callerOf('nobody', charged), Uint8Array.of(1))).rejects.toMatchObject({
      code: 'malformed',
    })
    expect(charged).toEqual([20, 20, 20, 1, 1])
  })

  it('requests: a node may have more against a caller than the rows', async () => {
    const charged: number[] = []
    const network = (mayAsk: Parameters<typeof requestHandler>[2]) =>
      networkTo(
        requestHandler({ read }, { read: () => ({ index: 7 }) }, mayAsk),
        callerOf('confirmed', charged),
      )
    const stranger = () => new MoteError('not-authorised', 'no')
    expect(await codeOf(ask(network(stranger), peer, read, {}, 1))).toBe('not-authorised')
    expect(
      await codeOf(
        ask(
          network(() => undefined),
          peer,
          read,
          {},
          1,
        ),
      ),
    ).toBe('ok')
    expect(charged, 'who is refused pays as well').toEqual([1, 1])
  })

  it('requests: another kind, another form and other bytes are refused as malformed, and nothing else happens', async () => {
    const refused = (body: Uint8Array) => codeOf(readHandler(callerOf('confirmed'), body))
    expect(await refused(encodeRequest(snapshot, { lastIncludedIndex: 1, chunk: 0 }))).toBe('malformed')
    const good = encodeRequest(read, {})
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 40 }), async bytes => {
        const isGood = Buffer.compare(bytes, good) === 0
        expect(await refused(bytes)).toBe(isGood ? 'ok' : 'malformed')
      }),
    )
  })

  it('requests: each end has the limit of its direction', async () => {
    const { maxFrameBytes, maxAnswerBytes } = protocols.member
    const over = new Uint8Array(maxFrameBytes + 1)
    expect(await codeOf(readHandler(callerOf('confirmed'), over))).toBe('too-large')
    // The bytes around a byte string are part of the body.
    const chunkOf = (length: number) =>
      requestHandler({ snapshot }, { snapshot: () => new Uint8Array(length) })
    const asked = (handler: RequestHandler) =>
      codeOf(ask(networkTo(handler), peer, snapshot, { lastIncludedIndex: 1, chunk: 0 }, 1))
    expect(await asked(chunkOf(maxAnswerBytes - 5))).toBe('ok')
    expect(await asked(chunkOf(maxAnswerBytes - 4))).toBe('too-large')
    const place = encodeRequest(snapshot, { lastIncludedIndex: 1, chunk: 0 })
    const sent = chunkOf(maxAnswerBytes - 4)(callerOf('confirmed'), place)
    expect(await codeOf(sent), 'it is not even sent').toBe('too-large')
    expect(await asked(async () => new Uint8Array(maxAnswerBytes + 1))).toBe('too-large')
    expect(await asked(async () => encode(queries.coordination.answer, []))).toBe('bad-proof')
  })

  it('requests: docs/FORMATS.md lists every one of them, and what each protocol carries', () => {
    const formats = readFileSync(join(repositoryRoot, 'docs/FORMATS.md'), 'utf8')
    for (const [protocol, table] of Object.entries(tables)) {
      const { id, maxFrameBytes, maxAnswerBytes } = protocols[protocol as keyof typeof tables]
      const of = Object.values(table) as { kind: number; name: string; from: string }[]
      for (const { kind, name } of of) expect(formats).toContain(`\n| ${kind} ${name} | `)
      const open = of.filter(({ from }) => from === 'anyone').map(({ name }) => `\`${name}\``)
      const before = open.length === of.length ? 'yes' : open.join(', ') || 'no'
      const limits = [maxFrameBytes, maxAnswerBytes].map(sizeText).join(' | ')
      expect(formats).toContain(`\n| \`${id}\` | one for each request | ${limits} | ${before} |`)
    }
  })

  it('requests: docs/LIMITS.md has both limits of every protocol', () => {
    const limits = readFileSync(join(repositoryRoot, 'docs/LIMITS.md'), 'utf8')
    for (const [name, { maxAnswerBytes }] of Object.entries(protocols)) {
      expect(limits).toContain(`\`protocols.${name}.maxFrameBytes\``)
      if (maxAnswerBytes > 0 && name !== 'hello')
        expect(limits).toContain(`\`protocols.${name}.maxAnswerBytes\``)
    }
  })

  it('requests: nobody else sends one or takes one apart', () => {
    const senders = readSourceFiles()
      .filter(({ folder }) => folder === 'node' || folder === 'client')
      .filter(({ text }) => /network\.request\(/.test(text))
      .map(({ path }) => path)
    expect(senders).toEqual(['node/network/requests.ts'])
  })
})

const sizeText = (bytes: number): string =>
  bytes % 1024 ** 2 === 0 ? `${bytes / 1024 ** 2} MiB` : `${bytes / 1024} KiB`
