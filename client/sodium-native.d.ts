/** The part of sodium-native (libsodium, synchronous) that is used here; the package ships no types. */
declare module 'sodium-native' {
  const sodium: {
    /** Fills `publicKey` (32 bytes) and `secretKey` (64 bytes) from `seed` (32 bytes). */
    crypto_sign_seed_keypair(publicKey: Uint8Array, secretKey: Uint8Array, seed: Uint8Array): void
    /** Fills `signature` (64 bytes). */
    crypto_sign_detached(signature: Uint8Array, message: Uint8Array, secretKey: Uint8Array): void
    /** Throws on wrong lengths. */
    crypto_sign_verify_detached(signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean
    /** Fills `digest` (32 bytes). */
    crypto_hash_sha256(digest: Uint8Array, message: Uint8Array): void
    /** Fills `publicKey` (32 bytes): X25519 (RFC 7748). */
    crypto_scalarmult_base(publicKey: Uint8Array, secretKey: Uint8Array): void
    /** Fills `shared` (32 bytes). Throws if the public key has small order. */
    crypto_scalarmult(shared: Uint8Array, secretKey: Uint8Array, publicKey: Uint8Array): void
    /** Fills `sealed` (16 bytes more than `message`). */
    crypto_aead_chacha20poly1305_ietf_encrypt(
      sealed: Uint8Array,
      message: Uint8Array,
      ad: Uint8Array | null,
      secretNonce: null,
      nonce: Uint8Array,
      key: Uint8Array,
    ): number
    /** Fills `message` (16 bytes less than `sealed`). Throws if the tag is wrong. */
    crypto_aead_chacha20poly1305_ietf_decrypt(
      message: Uint8Array,
      secretNonce: null,
      sealed: Uint8Array,
      ad: Uint8Array | null,
      nonce: Uint8Array,
      key: Uint8Array,
    ): number
  }
  export default sodium
}
