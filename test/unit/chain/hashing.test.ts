import { createHash } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { domainBytes, domains, useSha256 } from '../../../chain/hashing.ts'
import { readSourceFiles } from '../../support/source-files.ts'

const openssl = (bytes: Uint8Array) => new Uint8Array(createHash('sha256').update(bytes).digest())
const inputs = [0, 1, 55, 56, 64, 250, 4075, 4096, 10_000].map(length =>
  Uint8Array.from({ length }, (_, i) => i % 251),
)

/** The module as it is when a program loads it: in this process something may have made it hash natively. */
const loaded = (name: string): Promise<typeof import('../../../chain/hashing.ts')> =>
  import(new URL(`../../../chain/hashing.ts?${name}`, import.meta.url).href)

describe.each(['portable', 'native'])('hashing, %s', adapter => {
  let hashing: Awaited<ReturnType<typeof loaded>>
  let nativeCalls = 0
  beforeAll(async () => {
    hashing = await loaded(adapter)
    if (adapter === 'native')
      hashing.useSha256((bytes, as) => {
        nativeCalls++
        return Buffer.from(openssl(bytes)).toString(as)
      })
  })

  test('hashing: is SHA-256 of domain, zero byte and parts, however long', () => {
    const { hashOf, hashHex, hasherFor, FixedHasher } = hashing
    for (const input of inputs) {
      const expected = openssl(domainBytes('mote/genesis/1', input))
      expect(hashOf('mote/genesis/1', input)).toEqual(expected)
      expect(hashOf('mote/genesis/1', input.subarray(0, 20), input.subarray(20))).toEqual(expected)
      expect(hasherFor(Uint8Array.of(0))(input)).toEqual(openssl(Uint8Array.of(0, ...input)))
      expect(hashHex('mote/genesis/1', input)).toBe(Buffer.from(expected).toString('hex'))
      const fixed = new FixedHasher('mote/genesis/1', input.length)
      fixed.input.set(input)
      expect(hashing.hashTextBytes(fixed.hash())).toEqual(expected)
    }
    if (adapter === 'native') expect(nativeCalls).toBeGreaterThan(inputs.length)
    else expect(nativeCalls).toBe(0)
  })

  test('hashing: a result is not touched by the next hash', () => {
    const { hashOf } = hashing
    const first = hashOf('mote/genesis/1', Uint8Array.of(1))
    const copy = first.slice()
    hashOf('mote/genesis/1', Uint8Array.of(2))
    expect(first).toEqual(copy)
  })
})

test('hashing: another function than SHA-256 is refused', () => {
  const text = (digest: Uint8Array, as: 'binary' | 'hex') => Buffer.from(digest).toString(as)
  expect(() => useSha256((bytes, as) => text(openssl(bytes).fill(0, 31), as))).toThrow('native SHA-256')
  expect(() => useSha256((bytes, as) => createHash('sha512').update(bytes).digest(as))).toThrow('native')
  expect(() => useSha256(bytes => text(openssl(bytes), 'binary'))).toThrow('native')
})

test('hashing: each domain of envelopes and boxes serves one purpose: one place in the code', () => {
  const sources = readSourceFiles().filter(({ folder }) => !['test', 'bench'].includes(folder))
  const places = (domain: string): string[] =>
    sources.flatMap(({ path, text }) =>
      path === 'chain/hashing.ts'
        ? []
        : Array.from(text.matchAll(new RegExp(`'${domain}'`, 'g')), () => path),
    )
  const ofMessages = domains.filter(domain => /^mote\/(envelope|box)/.test(domain))
  expect(ofMessages.length).toBeGreaterThan(6)
  for (const domain of ofMessages) expect(places(domain), domain).toHaveLength(1)
})
