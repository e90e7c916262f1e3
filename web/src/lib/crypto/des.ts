// Triple DES in CBC mode (FIPS 46-3, SP 800-67), encryption only. WebCrypto has none, and the
// `compat` encoding of PKCS#12 needs it for old systems. Slow and not constant-time: it runs once,
// in the page of the person who owns the key, over about two kilobytes.
import type { Bytes } from "./der";

type Bits = Uint8Array;

const range = <T>(count: number, at: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => at(i));
const pick = (from: Bits, table: readonly number[]): Bits => Uint8Array.from(table, (i) => from[i] ?? 0);

// The tables that follow a rule are computed; positions count from 0, from the most significant bit.
const INITIAL = range(64, (i) => [57, 59, 61, 63, 56, 58, 60, 62].map((start) => start - 8 * (i % 8))[i >> 3] ?? 0);
const FINAL = range(64, (i) => INITIAL.indexOf(i));
const EXPAND = range(48, (i) => (4 * Math.floor(i / 6) + (i % 6) + 31) % 32);
const oneBased = (table: string): number[] => table.split(" ").map((n) => Number(n) - 1);
const PERMUTE = oneBased("16 7 20 21 29 12 28 17 1 15 23 26 5 18 31 10 2 8 24 14 32 27 3 9 19 13 30 6 22 11 4 25");
const CHOICE_1 = oneBased(
  "57 49 41 33 25 17 9 1 58 50 42 34 26 18 10 2 59 51 43 35 27 19 11 3 60 52 44 36 " +
    "63 55 47 39 31 23 15 7 62 54 46 38 30 22 14 6 61 53 45 37 29 21 13 5 28 20 12 4",
);
const CHOICE_2 = oneBased(
  "14 17 11 24 1 5 3 28 15 6 21 10 23 19 12 4 26 8 16 7 27 20 13 2 " +
    "41 52 31 37 47 55 30 40 51 45 33 48 44 49 39 56 34 53 46 42 50 36 29 32",
);
const ROTATE = [1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1];
// Eight boxes of four rows of sixteen, one hexadecimal digit an entry.
const BOXES = [
  "e4d12fb83a6c59070f74e2d1a6cb953841e8d62bfc973a50fc8249175b3ea06d",
  "f18e6b34972dc05a3d47f28ec01a69b50e7ba4d158c6932fd8a13f42b67c05e9",
  "a09e63f51dc7b428d709346a285ecbf1d6498f30b12c5ae71ad069874fe3b52c",
  "7de3069a1285bc4fd8b56f03472c1ae9a690cb7df13e52843f06a1d8945bc72e",
  "2c417ab6853fd0e9eb2c47d150fa3986421bad78f9c5630eb8c71e2d6f09a453",
  "c1af92680d34e75baf427c9561de0b389ef528c3704a1db6432c95fabe17608d",
  "4b2ef08d3c975a61d0b7491ae35c2f8614bdc37eaf6805926bd814a7950fe23c",
  "d2846fb1a93e50c71fd8a374c56b0e927b419ce206adf35821e74a8dfc90356b",
];

function bitsOf(bytes: Uint8Array): Bits {
  return Uint8Array.from(range(bytes.length * 8, (i) => ((bytes[i >> 3] ?? 0) >> (7 - (i & 7))) & 1));
}

function bytesOf(bits: Bits): Bytes {
  return Uint8Array.from(range(bits.length / 8, (i) => bits.subarray(8 * i, 8 * i + 8).reduce((n, bit) => 2 * n + bit, 0)));
}

function roundKeys(key: Uint8Array): Bits[] {
  let halves = pick(bitsOf(key), CHOICE_1);
  return ROTATE.map((by) => {
    halves = Uint8Array.from(range(56, (i) => halves[i < 28 ? (i + by) % 28 : 28 + ((i - 28 + by) % 28)] ?? 0));
    return pick(halves, CHOICE_2);
  });
}

function mix(right: Bits, key: Bits): Bits {
  const wide = pick(right, EXPAND);
  const out = new Uint8Array(32);
  BOXES.forEach((box, b) => {
    const bit = (i: number): number => (wide[6 * b + i] ?? 0) ^ (key[6 * b + i] ?? 0);
    const row = 2 * bit(0) + bit(5);
    const column = 8 * bit(1) + 4 * bit(2) + 2 * bit(3) + bit(4);
    const value = Number.parseInt(box.charAt(16 * row + column), 16);
    for (let i = 0; i < 4; i++) out[4 * b + i] = (value >> (3 - i)) & 1;
  });
  return pick(out, PERMUTE);
}

/** One block through one key schedule; the schedule reversed decrypts. */
function block(input: Bits, keys: readonly Bits[]): Bits {
  const start = pick(input, INITIAL);
  let left: Bits = start.subarray(0, 32);
  let right: Bits = start.subarray(32);
  for (const key of keys) {
    const mixed = mix(right, key);
    [left, right] = [right, left.map((bit, i) => bit ^ (mixed[i] ?? 0))];
  }
  return pick(Uint8Array.from([...right, ...left]), FINAL);
}

/**
 * Encrypts with PKCS#7 padding.
 *
 * @param key 24 bytes: encrypt with the first 8, decrypt with the next, encrypt with the last
 * @param iv 8 bytes
 */
export function tripleDesCbc(key: Uint8Array, iv: Uint8Array, plain: Uint8Array): Bytes {
  const [first, second, third] = [0, 8, 16].map((at) => roundKeys(key.subarray(at, at + 8)));
  if (!first || !second || !third || key.length !== 24 || iv.length !== 8) throw new RangeError("3DES needs 24 + 8 bytes");
  const schedule = [first, [...second].reverse(), third];
  const padding = 8 - (plain.length % 8);
  const padded = new Uint8Array(plain.length + padding).fill(padding);
  padded.set(plain);
  const out = new Uint8Array(padded.length);
  let previous = bitsOf(iv);
  for (let at = 0; at < padded.length; at += 8) {
    const mixed = bitsOf(padded.subarray(at, at + 8)).map((bit, i) => bit ^ (previous[i] ?? 0));
    previous = schedule.reduce(block, mixed);
    out.set(bytesOf(previous), at);
  }
  return out;
}
