import { describe, expect, test } from 'vitest'
import { chainIdOf } from '../../../chain/genesis.ts'
import { formatGenesis, parseGenesis } from '../../../client/genesis-file.ts'
import { sampleGenesis, sampleIdentity } from '../../support/sample-genesis.ts'

const document = sampleGenesis(['a', 'b', 'c'].map(sampleIdentity))
const json = () => JSON.parse(formatGenesis(document))
const parse = (value: unknown) => parseGenesis(JSON.stringify(value), 'genesis.json')

describe('genesis file', () => {
  test('gives back the document, and with it the chain id', () => {
    const read = parseGenesis(formatGenesis(document), 'genesis.json')
    expect(read).toEqual(document)
    expect(json().chainId).toBe(chainIdOf(document))
  })

  test('may leave out the chain id, which follows from the rest', () => {
    expect(parse({ ...json(), chainId: undefined })).toEqual(document)
  })

  test('refuses a chain id that is not the hash of the document', () => {
    const changed = { ...json(), name: 'other' }
    expect(() => parse(changed)).toThrow(/chainId: expected .* for this document/)
  })

  test.each<[string, (value: ReturnType<typeof json>) => void, string]>([
    ['a missing list', value => delete value.consenters, 'consenters: expected a list, got nothing'],
    [
      'a suite that is none',
      value => (value.consenters[1].key.suite = 'rsa'),
      'consenters[1].key.suite: expected one of',
    ],
    [
      'bytes that are none',
      value => (value.identities[0].transportKey = 'xyz'),
      'identities[0].transportKey: expected lowercase',
    ],
    ['a key of a wrong size', value => (value.identities[0].transportKey = 'abcd'), '32'],
    ['a field that no document has', value => (value.treshold = 1), 'treshold: expected no such field'],
    [
      'one among the parameters',
      value => (value.parameters.limits.blocks = 1),
      'parameters.limits.blocks: expected no such field',
    ],
    [
      'one of an identity',
      value => (value.identities[1].status = 'revoked'),
      'identities[1].status: expected no such field',
    ],
    [
      'one of a key',
      value => (value.consenters[2].key.private = 'ab'),
      'consenters[2].key.private: expected no such field',
    ],
    ['a threshold nobody can meet', value => (value.threshold = 9), 'threshold'],
    [
      'a number that is text',
      value => (value.parameters.heartbeatMs = '5'),
      'parameters.heartbeatMs: expected a natural number',
    ],
  ])('refuses %s', (_, change, detail) => {
    const value = json()
    change(value)
    expect(() => parse(value)).toThrow(
      expect.objectContaining({ code: 'config-invalid', detail: expect.stringContaining(detail) }),
    )
  })
})
