/**
 * A contract as the chain holds it, and its address (docs/FORMATS.md, "Contracts").
 *
 * A contract never changes: its address is the hash of its bytes. Another version is another contract at another address, so whoever
 * names an address knows what runs. What it remembers stands apart, in a leaf of its own.
 *
 * One run, in this order: inputs are read, expressions are computed as they are named, each rule must hold, the first case whose
 * condition holds gives the decision, its values are read, and the state variables get their next values.
 */
import type { ContractAddress, DeviceId } from '../brands.ts'
import {
  ascending,
  boolean,
  type Codec,
  constant,
  digest,
  encode,
  list,
  oneOf,
  optional,
  struct,
  textThat,
  uint,
} from '../codec.ts'
import { hashHex } from '../hashing.ts'
import { isPlainFilter } from '../rights.ts'
import { type Scalar, scalarCodec } from '../scalars.ts'
import {
  maxAboutCharacters,
  maxContractCallers,
  maxDecisionCases,
  maxDecisionCharacters,
  maxDecisionValues,
  maxInputs,
  maxNamedExpressions,
  maxPublishFilters,
  maxRecordTopicCharacters,
  maxRules,
  maxStateVariables,
  maxStreams,
} from './contract-limits.ts'
import {
  contractNameCodec,
  type Expression,
  expressionCodec,
  type ValueType,
  valueNameCodec,
} from './expression.ts'

/** What a number is in a contract: IEEE 754 binary64, or a 64-bit integer that is checked for overflow. */
export type ArithmeticName = 'binary64' | 'int64'

export interface InputDeclaration {
  readonly name: string
  readonly type: ValueType
}

/** The last reading of a device on a topic: a number among the values of its last record there. */
export interface StreamDeclaration {
  readonly name: string
  /** Undefined: of whoever the record or the call is from. */
  readonly device: DeviceId | undefined
  readonly topic: string
  /** Which of the record's values. */
  readonly field: string
  /** Readings that a gateway attests, and not those that the device signed: two streams that do not mix. */
  readonly attested: boolean
}

export interface StateDeclaration {
  readonly name: string
  readonly initial: Scalar
}

export interface NamedExpression {
  readonly name: string
  readonly expression: Expression
}

/** The last case has no condition. */
export interface DecisionCase {
  readonly when: Expression | undefined
  readonly decision: string
}

export interface Contract {
  readonly format: 1
  readonly name: string
  readonly version: number
  readonly about: string
  readonly arithmetic: ArithmeticName
  /** Who may call it; undefined for anybody who is active, none for a contract that only guards. */
  readonly callers: readonly DeviceId[] | undefined
  /** Whether it takes calls, and as a guard records, that a gateway attests for a plain client. */
  readonly attested: boolean
  /** Plain filters of the topics on which its decisions may be published, ascending. */
  readonly publish: readonly string[]
  readonly inputs: readonly InputDeclaration[]
  readonly streams: readonly StreamDeclaration[]
  readonly state: readonly StateDeclaration[]
  readonly expressions: readonly NamedExpression[]
  readonly rules: readonly NamedExpression[]
  readonly cases: readonly DecisionCase[]
  /** Whose values a decision carries. */
  readonly values: readonly string[]
  /** Next values of state variables; one that is not named keeps its value. */
  readonly next: readonly NamedExpression[]
}

/** True for a topic that a record may have: 1 to 128 printable ASCII characters, without the wildcards of MQTT. */
export function isRecordTopic(topic: string): boolean {
  return topic.length <= maxRecordTopicCharacters && /^[\x20-\x7e]+$/.test(topic) && !/[+#]/.test(topic)
}

export const recordTopicCodec: Codec<string> = textThat(isRecordTopic, 'a topic without wildcards')
const contractTitlePattern = /^[a-z0-9-]{1,32}$/
const filterCodec = textThat(isPlainFilter, 'a topic filter outside mote/ and $')
function printableText(max: number, min: number): Codec<string> {
  const pattern = new RegExp(`^[\\x20-\\x7e]{${min},${max}}$`)
  return textThat(value => pattern.test(value), `${min} to ${max} printable ASCII characters`)
}
const namedExpression = (): Codec<NamedExpression> =>
  struct<NamedExpression>({ name: contractNameCodec, expression: expressionCodec })

export const contractCodec: Codec<Contract> = struct<Contract>({
  format: constant(1),
  name: textThat(value => contractTitlePattern.test(value), '1 to 32 of a-z, 0-9 and -'),
  version: uint(0xffff_ffff),
  about: printableText(maxAboutCharacters, 0),
  arithmetic: oneOf<ArithmeticName>({ binary64: 1, int64: 2 }),
  callers: optional(ascending(list(digest<DeviceId>(), maxContractCallers), id => id)),
  attested: boolean,
  publish: ascending(list(filterCodec, maxPublishFilters), filter => filter),
  inputs: list(
    struct<InputDeclaration>({
      name: contractNameCodec,
      type: oneOf<ValueType>({ number: 1, boolean: 2 }),
    }),
    maxInputs,
  ),
  streams: list(
    struct<StreamDeclaration>({
      name: contractNameCodec,
      device: optional(digest<DeviceId>()),
      topic: recordTopicCodec,
      field: valueNameCodec,
      attested: boolean,
    }),
    maxStreams,
  ),
  state: list(struct<StateDeclaration>({ name: contractNameCodec, initial: scalarCodec }), maxStateVariables),
  expressions: list(namedExpression(), maxNamedExpressions),
  rules: list(namedExpression(), maxRules),
  cases: list(
    struct<DecisionCase>({
      when: optional(expressionCodec),
      decision: printableText(maxDecisionCharacters, 1),
    }),
    maxDecisionCases,
    1,
  ),
  values: list(contractNameCodec, maxDecisionValues),
  next: list(namedExpression(), maxStateVariables),
})

/** Address of a contract: hash of its encoding. */
export function contractAddressOf(encoded: Uint8Array): ContractAddress {
  return hashHex('mote/contract/1', encoded) as string as ContractAddress
}

/** The encoding of a contract, and the address that it has on every chain. */
export function encodedContract(contract: Contract): {
  readonly bytes: Uint8Array
  readonly address: ContractAddress
} {
  const bytes = encode(contractCodec, contract)
  return { bytes, address: contractAddressOf(bytes) }
}
