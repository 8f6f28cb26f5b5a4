/** A short run of `npm run test:malformed`: what is wrong ends its own connection, or is refused with a reason, and nobody else notices. */
import { expect, test } from 'vitest'
import { failuresOf, runMalformed } from '../malformed/run.ts'

test('malformed packets and payloads: no crash, bounded memory, a reason for each, and an honest pair is served', async () => {
  const report = await runMalformed({ packets: 600, seed: 20_261_129 })
  const { counts, figures, seconds } = report
  const { rssBytes, honest } = figures.at(-1)!
  console.info(
    `malformed: ${Object.values(counts.sent)} in ${seconds.toFixed(1)} s, ${counts.ended} connections ended; ` +
      `gateway ${Math.round(rssBytes / 2 ** 20)} MiB; honest ${honest.checked} of ${honest.sent}, p99 ${honest.p99Ms.toFixed(1)} ms`,
  )
  expect(failuresOf(report)).toEqual([])
})
