/** Clocks on `/mote/raft/1`, beside heartbeats and their answers (docs/FORMATS.md). */
import type { DeviceId, Milliseconds } from '../chain/brands.ts'
import { type Codec, digest, list, struct, uint, union } from '../chain/codec.ts'
import type { ClockSample, PeerMessage } from './ports.ts'
import { clockSampleMaxAgeMs, maxClockSamples } from './voter-clocks.ts'

export type ClocksFrame = Extract<PeerMessage, { type: 'clocks' }>

/** The kind of the frame; Raft's own are below. */
export const clocksKind = 16

export const clocksCodec: Codec<ClocksFrame> = union<ClocksFrame>({
  clocks: [
    clocksKind,
    struct({
      samples: list(
        struct<ClockSample>({
          id: digest<DeviceId>(),
          wall: uint<Milliseconds>(),
          ageMs: uint(clockSampleMaxAgeMs),
        }),
        maxClockSamples,
      ),
    }),
  ],
})
