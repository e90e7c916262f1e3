import { expect, test } from "vitest";
import { tripleDesCbc } from "../src/lib/crypto/des";

const hex = (text: string) => Uint8Array.from(Buffer.from(text, "hex"));

test("one key three times is DES: the worked example of FIPS 46", () => {
  const key = hex("133457799bbcdff1".repeat(3));
  const out = tripleDesCbc(key, new Uint8Array(8), hex("0123456789abcdef"));
  expect(Buffer.from(out.subarray(0, 8)).toString("hex")).toBe("85e813540f0ab405");
});

test("the SP 800-67 example, block by block", () => {
  const key = hex("0123456789abcdef23456789abcdef01456789abcdef0123");
  const plain = Buffer.from("The qufck brown fox jump");
  const blocks = [0, 8, 16].map((at) => tripleDesCbc(key, new Uint8Array(8), plain.subarray(at, at + 8)).subarray(0, 8));
  expect(Buffer.concat(blocks).toString("hex")).toBe("a826fd8ce53b855fcce21c8112256fe668d5c05dd9b6b900");
});

test("a key of another length is refused", () => {
  expect(() => tripleDesCbc(new Uint8Array(16), new Uint8Array(8), new Uint8Array(8))).toThrow(RangeError);
});
