/**
 * Two projects: tests of one process, and tests that start processes or open many sockets (test/e2e). Four files run at a
 * time, also on two cores: an end-to-end test waits for a quarter of its time, and tests of one process fill that.
 *
 * A time-out ends what hangs; it is no measure of speed. It is many times what the slowest test takes alone, because the
 * machine may be busy with something else.
 */
import { defineConfig } from 'vitest/config'

// Nothing here asks anybody outside this machine, and each process of Node that loads TLS would parse these certificates: a sixth of its start.
delete process.env['NODE_EXTRA_CA_CERTS']

export default defineConfig({
  test: {
    maxWorkers: 4,
    reporters: ['default', './test/reporter.ts'],
    globalSetup: ['./test/leftovers.ts', './test/bundle.ts'],
    projects: [
      {
        test: {
          name: 'unit',
          // One load of the modules for all files of a worker: half of the time was loading. A test leaves nothing behind in them.
          isolate: false,
          include: ['test/**/*.test.ts'],
          exclude: ['test/e2e/**', 'test/hostile/**', '**/node_modules/**'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'e2e',
          isolate: false,
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'hostile',
          isolate: false,
          include: ['test/hostile/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
})
