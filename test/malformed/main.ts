/**
 * `npm run test:malformed -- --packets N --seed S`: sends so many packets and payloads that are wrong to a gateway, and prints what it came to.
 * Exit codes: 0 all held, 1 something did not, 2 usage.
 */
import { runWithOptions } from '../../bench/arguments.ts'
import { failuresOf, runMalformed } from './run.ts'

const mebibytes = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`

async function run(options: { readonly packets: number; readonly seed: number }): Promise<number> {
  const report = await runMalformed({
    ...options,
    onFigures: (sent, { rssBytes, heapBytes, honest }) => {
      const latency = `${honest.p50Ms.toFixed(1)} ms, p99 ${honest.p99Ms.toFixed(1)} ms`
      process.stderr.write(
        `${sent} sent; gateway ${mebibytes(rssBytes)}, heap ${mebibytes(heapBytes)}; honest ${honest.checked} of ${honest.sent}, p50 ${latency}\n`,
      )
    },
  })
  const { counts, seconds, figures } = report
  const failures = failuresOf(report)
  const { lines, honest } = figures.at(-1) ?? { lines: {}, honest: undefined }
  process.stdout.write(
    `${JSON.stringify({ ...options, seconds: Math.round(seconds), ...counts, honest, lines, failures }, undefined, 2)}\n`,
  )
  return failures.length === 0 ? 0 : 1
}

process.exitCode = await runWithOptions(process.argv.slice(2), {
  command: 'npm run test:malformed --',
  meaning: 'packets and payloads that are wrong, to a gateway',
  options: {
    packets: { default: 100_000, meaning: 'how many' },
    seed: { default: 1, meaning: 'of their randomness' },
  },
  run,
})
