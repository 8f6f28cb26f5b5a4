/** A property that did not hold: what ends a run. */

export class Violation extends Error {
  readonly property: string

  constructor(property: string, where: string) {
    super(`${property}: ${where}`)
    this.property = property
  }
}

export function must(holds: boolean, property: string, where: string): void {
  if (!holds) throw new Violation(property, where)
}
