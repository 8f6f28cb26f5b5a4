/**
 * Credentials for plain MQTT clients, given and taken by the device itself or by an operator. Each action reads the list, writes the
 * whole list anew, and reads it back verified; what has expired is left out on the way.
 */
import type { DeviceId, Milliseconds } from '../chain/brands.ts'
import type { Credential, CredentialsRecord } from '../chain/credentials.ts'
import { maxCredentials } from '../chain/limits.ts'
import { MoteError } from '../chain/result.ts'
import type { ChainClient } from './chain-client.ts'
import type { IdentityKeys } from './key-directory.ts'
import type { SubmitOptions } from './submission.ts'
import type { Verified } from './verified-chain.ts'

/** Attempts against others that change the list at the same moment. */
const editRounds = 3

/** Adds a credential. Throws `limit-exceeded` when there are four that have not expired, and what the chain refuses. */
export function addCredential(
  client: ChainClient,
  signer: IdentityKeys,
  { device, credential }: { readonly device: DeviceId; readonly credential: Credential },
  options?: SubmitOptions,
): Promise<Verified<CredentialsRecord>> {
  return edit(
    client,
    signer,
    device,
    known => {
      if (known.length >= maxCredentials)
        throw new MoteError(
          'limit-exceeded',
          `credentials: ${device} has ${known.length}; revoke one of them first`,
        )
      return [...known, credential]
    },
    options,
  )
}

/** Takes away every credential whose hash begins so. Throws `not-found` if there is none. */
export function revokeCredentials(
  client: ChainClient,
  signer: IdentityKeys,
  { device, hash }: { readonly device: DeviceId; readonly hash: string },
  options?: SubmitOptions,
): Promise<Verified<CredentialsRecord>> {
  return edit(
    client,
    signer,
    device,
    known => {
      const kept = known.filter(credential => !credential.hash.startsWith(hash))
      if (kept.length === known.length)
        throw new MoteError('not-found', `credentials: ${device} has none whose hash begins with ${hash}`)
      return kept
    },
    options,
  )
}

async function edit(
  client: ChainClient,
  signer: IdentityKeys,
  subject: DeviceId,
  change: (known: readonly Credential[]) => readonly Credential[],
  options?: SubmitOptions,
): Promise<Verified<CredentialsRecord>> {
  for (let round = 1; ; round++) {
    await client.follower.sync()
    const { value } = await client.records.credentials(subject)
    // What expires while this is under way would be refused.
    const soon = (client.records.time() + 60_000) as Milliseconds
    const known = (value?.credentials ?? []).filter(({ expiresAt }) => expiresAt > soon)
    const credentials = [...change(known)].sort((a, b) => (a.hash < b.hash ? -1 : 1))
    const expectedVersion = value?.version ?? 0
    try {
      await client.perform(
        signer,
        { type: 'identity.credentials', subject, expectedVersion, credentials },
        options,
      )
      await client.follower.sync()
      return await client.records.credentials(subject)
    } catch (error) {
      if (!(error instanceof MoteError) || error.code !== 'version-conflict' || round === editRounds)
        throw error
    }
  }
}
