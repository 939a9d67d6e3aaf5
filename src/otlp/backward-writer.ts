/**
 * Writes a protobuf message from its end to its beginning, so that the length of what is nested is known when it is written:
 * one pass, and nothing is moved. Fields are to be written in falling order, and of each the value before its tag.
 */
export type BackwardWriter = {
  /** Bytes written so far: the mark of where a nested message ends. */
  readonly mark: () => number;
  /** Begins a length-delimited field, whose content is all that was written since `end`. */
  readonly begin: (field: number, end: number) => void;
  /** A varint field of an int64. */
  readonly varint: (field: number, value: number) => void;
  readonly sint32: (field: number, value: number) => void;
  readonly string: (field: number, text: string) => void;
  readonly double: (field: number, value: number) => void;
  /** fixed64 of a count, at most 2^53. */
  readonly count: (field: number, value: number) => void;
  /** fixed64 of two halves. */
  readonly halves: (field: number, low: number, high: number) => void;
  readonly packedDoubles: (field: number, values: readonly number[]) => void;
  readonly packedCounts: (field: number, values: readonly number[]) => void;
  readonly packedVarints: (field: number, values: readonly number[]) => void;
  /** Fields that were written before, as `since` answered them. */
  readonly raw: (bytes: Uint8Array) => void;
  /** A copy of what was written since a mark. */
  readonly since: (mark: number) => Uint8Array;
  /** A copy of all; the writer is empty then. */
  readonly take: () => Uint8Array;
};

const [varintType, fixedType, lengthType] = [0, 1, 2];
const half = 4_294_967_296;

export function createBackwardWriter(): BackwardWriter {
  let bytes = Buffer.alloc(65_536);
  // Buffer's own methods look at their arguments in ways that make an array for each.
  let view = viewOf(bytes);
  let at = bytes.length;

  /** Makes room for so many bytes before what is there. */
  const room = (length: number): void => {
    if (length <= at) return;
    const written = bytes.length - at;
    const larger = Buffer.alloc(2 * bytes.length + length);
    bytes.copy(larger, larger.length - written, at);
    bytes = larger;
    view = viewOf(larger);
    at = larger.length - written;
  };
  const unsigned = (value: number): void => {
    room(10);
    let length = 1;
    for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) length += 1;
    at -= length;
    let rest = value;
    for (let i = 0; i < length - 1; i += 1) {
      bytes[at + i] = (rest % 128) + 128;
      rest = Math.floor(rest / 128);
    }
    bytes[at + length - 1] = rest;
  };
  const tag = (field: number, type: number): void => unsigned(field * 8 + type);
  const begin = (field: number, end: number): void => {
    unsigned(bytes.length - at - end);
    tag(field, lengthType);
  };
  const mark = (): number => bytes.length - at;
  const raw = (some: Uint8Array): void => {
    room(some.byteLength);
    at -= some.byteLength;
    bytes.set(some, at);
  };
  const bareHalves = (low: number, high: number): void => {
    room(8);
    at -= 8;
    view.setUint32(at, low, true);
    view.setUint32(at + 4, high, true);
  };
  const bareDouble = (value: number): void => {
    room(8);
    at -= 8;
    view.setFloat64(at, value, true);
  };
  const bareCount = (value: number): void => bareHalves(value % half, Math.floor(value / half));
  const bareText = (text: string): void => {
    room(text.length);
    const end = at;
    for (let i = text.length - 1; i >= 0; i -= 1) {
      const code = text.charCodeAt(i);
      if (code > 127) {
        at = end;
        raw(Buffer.from(text, 'utf8'));
        return;
      }
      at -= 1;
      bytes[at] = code;
    }
  };
  const packed = (
    field: number,
    values: readonly number[],
    write: (value: number) => void,
  ): void => {
    const end = mark();
    for (let i = values.length - 1; i >= 0; i -= 1) write(values[i] ?? 0);
    begin(field, end);
  };

  return {
    mark,
    begin,
    varint: (field, value) => {
      if (value < 0) {
        // Ten bytes: a negative integer is its 64-bit complement.
        const whole = Buffer.alloc(10);
        let rest = BigInt.asUintN(64, BigInt(value));
        for (let i = 0; i < 9; i += 1) {
          whole[i] = Number(rest & 127n) + 128;
          rest >>= 7n;
        }
        whole[9] = Number(rest);
        raw(whole);
      } else unsigned(value);
      tag(field, varintType);
    },
    sint32: (field, value) => {
      unsigned(value < 0 ? -2 * value - 1 : 2 * value);
      tag(field, varintType);
    },
    string: (field, text) => {
      const end = mark();
      bareText(text);
      begin(field, end);
    },
    double: (field, value) => {
      bareDouble(value);
      tag(field, fixedType);
    },
    count: (field, value) => {
      bareCount(value);
      tag(field, fixedType);
    },
    halves: (field, low, high) => {
      bareHalves(low, high);
      tag(field, fixedType);
    },
    packedDoubles: (field, values) => packed(field, values, bareDouble),
    packedCounts: (field, values) => packed(field, values, bareCount),
    packedVarints: (field, values) => packed(field, values, unsigned),
    raw,
    since: from => Uint8Array.prototype.slice.call(bytes, at, bytes.length - from),
    take: () => {
      const all = Uint8Array.prototype.slice.call(bytes, at);
      at = bytes.length;
      return all;
    },
  };
}

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
