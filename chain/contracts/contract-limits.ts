/**
 * Bounds of a contract and of its text. With no loop in the language, the number of nodes bounds the steps of a run; with few names and
 * shallow expressions, checking one costs little more than reading it.
 */

/** Encoded contract: fits a transaction with room for the rest. */
export const maxContractBytes = 12 * 1024
/** The file that people write, cases included. */
export const maxContractFileBytes = 256 * 1024
/** The most that one run may cost: `runSteps`, `streamSteps` for each stream, and one step for each node and each other declaration. */
export const maxContractSteps = 1024
/** What a run costs before its first node: contract, values and state are found. */
export const runSteps = 32
/** What a stream costs, however often it is used: its last reading is found, once. */
export const streamSteps = 32
/** Operations within operations. */
export const maxExpressionDepth = 16
/** Characters of one expression, or line, as text. */
export const maxExpressionCharacters = 1024
/** Characters of a name within a contract. */
export const maxNameCharacters = 32
/** Characters of the sentence that says what a contract is for. */
export const maxAboutCharacters = 256
export const maxInputs = 64
export const maxStreams = 16
export const maxStateVariables = 32
export const maxNamedExpressions = 64
export const maxRules = 16
export const maxDecisionCases = 16
/** Characters of a decision. */
export const maxDecisionCharacters = 64
/** Names whose values a decision carries. */
export const maxDecisionValues = 16
/** Identities that a contract lists as callers. */
export const maxContractCallers = 32
/** Topic filters on which decisions may be published. */
export const maxPublishFilters = 16
/** Characters of the topic of a record. */
export const maxRecordTopicCharacters = 128
/** Runs that a contract's file lists with what is expected. */
export const maxContractCases = 256
