/**
 * The members of JSON objects as they stand in a text: `JSON.parse` keeps the last of two with one name and says nothing, so that
 * two readers of the same bytes could take different values for what was sent.
 *
 * `JSON.parse` alone decides what JSON is (RFC 8259); this only finds where the members of an object that it has read begin and end. So
 * the two cannot disagree about the grammar, and no second parser has to be kept up.
 */
export interface JsonMember {
  readonly name: string
  /** The value's own text, without the white space around it. */
  readonly text: string
}

/** A string, or any other character that is no white space (RFC 8259, section 2). */
const token = /"(?:[^"\\]|\\.)*"|[^ \t\n\r]/g

/** A name that stands twice in one object, at any depth. @param text which `JSON.parse` has read */
export function nameTwice(text: string): string | undefined {
  /** Names so far of each object that is open; undefined for a list. */
  const open: (Set<string> | undefined)[] = []
  let isName = false
  for (const [part] of text.matchAll(token)) {
    const names = open.at(-1)
    if (isName && names && part.startsWith('"')) {
      const name = JSON.parse(part) as string
      if (names.has(name)) return name
      names.add(name)
    }
    if (part === '{' || part === '[') open.push(part === '{' ? new Set() : undefined)
    if (part === '}' || part === ']') open.pop()
    isName = part === '{' || part === ','
  }
  return undefined
}

/** In the order of the text, a name as often as it stands there. @param text an object, which `JSON.parse` has read */
export function jsonMembers(text: string): readonly JsonMember[] {
  const members: JsonMember[] = []
  let depth = 0
  let name: string | undefined
  let start: number | undefined
  let end = 0
  for (const { 0: part, index } of text.matchAll(token)) {
    const closes = part === '}' || part === ']'
    if (depth === 1 && (part === ',' || closes)) {
      if (name !== undefined) members.push({ name, text: text.slice(start, end) })
      name = undefined
      start = undefined
    } else if (depth === 1 && name === undefined) {
      name = JSON.parse(part) as string
    } else if (depth > 1 || (depth === 1 && (start !== undefined || part !== ':'))) {
      start ??= index
    }
    if (part === '{' || part === '[') depth += 1
    if (closes) depth -= 1
    end = index + part.length
  }
  return members
}
