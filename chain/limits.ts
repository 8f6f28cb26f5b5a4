/**
 * Bounds that no chain may exceed, because decoders and memory depend on them. What a chain may set for itself, within these
 * bounds, is `ChainLimits` in its parameters (records.ts). docs/FORMATS.md, section Limits, is kept equal by a test.
 */
import { maxContractSteps } from './contracts/contract-limits.ts'

/** Largest signed transaction: 16 KiB. */
export const maxTransactionBytes = 16 * 1024
/** Furthest expiry after block time, in milliseconds: 10 minutes. */
export const maxExpiryAheadMs = 10 * 60 * 1000
/** Furthest a block may lie after its parent, in milliseconds: 24 hours. */
export const maxBlockTimeStepMs = 24 * 60 * 60 * 1000
/** Keys in one identity record, ended ones included. */
export const maxKeysPerIdentity = 8
/** Devices that one grant may let in. */
export const maxGrantQuota = 65_535
/** Longest time for which a rotated key stays valid, in milliseconds: 30 days. */
export const maxRotationOverlapMs = 30 * 24 * 60 * 60 * 1000
/**
 * Version of a record from which its own device, owner or members cannot edit it any more, and so an epoch. It leaves an operator a
 * million (2^20) edits before 2^32 - 1, where a version ends.
 */
export const maxEditedVersion = 4_293_918_719
/** Version of a group from which an operator cannot either: half of that million is left for members that are revoked. */
export const maxOperatorEditedVersion = maxEditedVersion + 524_288
/** Members named by one transaction. */
export const maxMembersPerTransaction = 256
/** Members of one group. */
export const maxGroupMembers = 1024
/** Groups of which one identity is a member. */
export const maxGroupsPerIdentity = 64
/** How much of an identity's places for groups the groups of one other owner take, in percent, rounded up to a whole place. */
export const maxOwnerSharePercent = 25
/** Topic filters of one kind among the rights of an identity. */
export const maxRightsFilters = 16
/** Bytes of one of them. */
export const maxRightsFilterBytes = 128
/** Credentials of an identity for plain MQTT clients. */
export const maxCredentials = 4
/** How far ahead of block time one may expire, in milliseconds: 400 days. */
export const maxCredentialLifetimeMs = 400 * 24 * 60 * 60 * 1000
/** Authorities of a chain. */
export const maxAuthorities = 16
/** Transactions in one block. */
export const maxBlockTransactions = 4096
/** Bytes of all transactions in one block: 2 MiB, so that a block fits a network frame. */
export const maxBlockBytes = 2 * 1024 * 1024
/** State leaves that one block writes: what a served header may list. */
export const maxChangesPerBlock = 65_536
/** State leaves that one transaction writes: a group, its member list, and a membership list for each member named. */
export const maxTransactionChanges = 2 + maxMembersPerTransaction
/**
 * Bytes of all receipts of one block: 2 MiB. A batch of short records has receipts of several times its own bytes, and a block is stored and
 * sent with its receipts.
 */
export const maxBlockReceiptBytes = 2 * 1024 * 1024
/** Room that the next receipt may need: 16 KiB; 128 events, none of which takes more than 128 bytes but a decision, which comes alone. */
export const maxReceiptBytes = 16 * 1024
/** Transactions whose expiry lies ahead and which are therefore remembered. */
export const maxUnexpiredTransactions = 8 * 1024 * 1024
/** Records in one transaction. */
export const maxBatchRecords = 64
/** Bytes of a record as they came: 8 KiB. */
export const maxRecordPayloadBytes = 8 * 1024
/** Values of a record or a call. */
export const maxRecordValues = 64
/** Bytes of what a device calls a message. */
export const maxMessageIdBytes = 64
/** Contracts that guard one topic. */
export const maxGuardsPerTopic = 4
/** Steps of contracts in one block: less than a second on a small machine. */
export const maxBlockSteps = 4 * 1024 * 1024
/** The same for one transaction: a batch of which each record is judged by as many guards, each of which costs the most. */
export const maxTransactionSteps = maxBatchRecords * maxGuardsPerTopic * maxContractSteps
