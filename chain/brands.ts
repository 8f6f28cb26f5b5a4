/**
 * Names for the numbers and byte strings of the chain, so that the compiler tells them apart.
 *
 * In memory a 32-byte digest is 64 lowercase hexadecimal characters (usable as a map key, printable as it is);
 * on the wire it is 32 bytes. A constructor of the same name validates; use it at the edges (decode,
 * configuration, HTTP), then trust the brand.
 */
import { assert } from './result.ts'

declare const brand: unique symbol
type Brand<T, Name extends string> = T & { readonly [brand]: Name }

/** SHA-256 digest, 64 hexadecimal characters. */
export type Hash = Brand<string, 'Hash'>
/** SHA-256 digest, 32 characters, one for each byte: where there are many and nobody reads them. */
export type HashText = Brand<string, 'HashText'>
/** Identity of a device, node or operator: digest of its inception key. 64 hexadecimal characters. */
export type DeviceId = Brand<string, 'DeviceId'>
/** Digest of a suite and a public key. 64 hexadecimal characters. */
export type KeyId = Brand<string, 'KeyId'>
/** Identity of a group: digest of its owner and name. 64 hexadecimal characters. */
export type GroupId = Brand<string, 'GroupId'>
/** Identity of a grant: digest of its token key. 64 hexadecimal characters. */
export type GrantId = Brand<string, 'GrantId'>
/** Identity of a contract: digest of its bytes. 64 hexadecimal characters. */
export type ContractAddress = Brand<string, 'ContractAddress'>
/** Digest of a transaction without its signature. 64 hexadecimal characters. */
export type TransactionId = Brand<string, 'TransactionId'>
/** Digest of the genesis document. 64 hexadecimal characters. */
export type ChainId = Brand<string, 'ChainId'>
/** Place of a leaf in the state tree. 64 hexadecimal characters. */
export type StateKey = Brand<string, 'StateKey'>
/** Number of a block; the genesis header is 0. Not the index of the Raft log. */
export type Height = Brand<number, 'Height'>
/** Raft term in which a block was proposed. */
export type Term = Brand<number, 'Term'>
/** Index of an entry of the Raft log; the log begins at 1, so that 0 is the genesis. Not the height. */
export type LogIndex = Brand<number, 'LogIndex'>
/** Milliseconds since 1970-01-01T00:00:00Z. */
export type Milliseconds = Brand<number, 'Milliseconds'>

const digest = /^[0-9a-f]{64}$/

/** True for 64 lowercase hexadecimal characters: the shape of every digest and id. */
export function isDigest(text: string): boolean {
  return digest.test(text)
}

function digestBrand<T>(name: string): (text: string) => T {
  return text => {
    assert(
      isDigest(text),
      `${name}: expected 64 lowercase hexadecimal characters, got ${text.length} characters`,
    )
    return text as T
  }
}

function naturalBrand<T>(name: string): (value: number) => T {
  return value => {
    assert(Number.isSafeInteger(value) && value >= 0, `${name}: expected a natural number, got ${value}`)
    return value as T
  }
}

export const Hash = digestBrand<Hash>('Hash')
export const DeviceId = digestBrand<DeviceId>('DeviceId')
export const KeyId = digestBrand<KeyId>('KeyId')
export const GroupId = digestBrand<GroupId>('GroupId')
export const GrantId = digestBrand<GrantId>('GrantId')
export const ContractAddress = digestBrand<ContractAddress>('ContractAddress')
export const TransactionId = digestBrand<TransactionId>('TransactionId')
export const ChainId = digestBrand<ChainId>('ChainId')
export const StateKey = digestBrand<StateKey>('StateKey')
export const Height = naturalBrand<Height>('Height')
export const Term = naturalBrand<Term>('Term')
export const LogIndex = naturalBrand<LogIndex>('LogIndex')
export const Milliseconds = naturalBrand<Milliseconds>('Milliseconds')
