// The key derivation of PKCS#12 (RFC 7292, appendix B.2), over WebCrypto's hashes.
import { concat, utf16, type Bytes } from "./der";

export const KEY_ID = 1;
export const IV_ID = 2;
export const MAC_ID = 3;

/** Block length of SHA-1 and SHA-256, in bytes: `v` of the RFC divided by eight. */
const BLOCK = 64;

export async function deriveKey(
  hash: "SHA-1" | "SHA-256",
  id: number,
  password: string,
  salt: Bytes,
  iterations: number,
  length: number,
): Promise<Bytes> {
  const diversifier = new Uint8Array(BLOCK).fill(id);
  // The password is a BMPString with its two closing zero bytes.
  let input = concat(fill(salt), fill(concat(utf16(password), new Uint8Array(2))));
  let out = new Uint8Array(0);
  while (out.length < length) {
    let digest = new Uint8Array(await crypto.subtle.digest(hash, concat(diversifier, input)));
    for (let i = 1; i < iterations; i++) digest = new Uint8Array(await crypto.subtle.digest(hash, digest));
    out = concat(out, digest);
    input = addToBlocks(input, digest);
  }
  return out.slice(0, length);
}

/** Repeats the value up to the next multiple of a block. */
function fill(value: Bytes): Bytes {
  const length = BLOCK * Math.ceil(value.length / BLOCK);
  return Uint8Array.from({ length }, (_, i) => value[i % value.length] ?? 0);
}

/** Every block becomes (block + digest repeated to a block + 1) mod 2^512. */
function addToBlocks(input: Bytes, digest: Bytes): Bytes {
  const sum = input.slice();
  for (let start = 0; start < sum.length; start += BLOCK) {
    let carry = 1;
    for (let i = BLOCK - 1; i >= 0; i--) {
      carry += (sum[start + i] ?? 0) + (digest[i % digest.length] ?? 0);
      sum[start + i] = carry & 0xff;
      carry >>= 8;
    }
  }
  return sum;
}
