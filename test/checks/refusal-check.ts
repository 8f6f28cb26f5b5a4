/** One check that is taken out, and the test that has to go red without it (main.ts). */
export interface RefusalCheck {
  readonly refusal: string
  readonly file: string
  readonly find: string
  readonly replace: string
  /** Test file that goes red. */
  readonly test: string
  /** Part of the names of the tests to run in it. */
  readonly only?: string
}

export const never = 'if (false)'

export function takenOut(
  file: string,
  test: string,
  rows: Readonly<Record<string, string>>,
): readonly RefusalCheck[] {
  return Object.entries(rows).map(([refusal, find]) => ({ refusal, file, find, replace: never, test }))
}
