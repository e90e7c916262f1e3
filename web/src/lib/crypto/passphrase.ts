// Makes the password of a PKCS#12 file. It has to be typed on phones, and some systems refuse
// empty, long or non-ASCII passwords: lower case and digits only, nothing that looks alike.

/** 32 signs, so that five random bits choose one without a bias. */
const SIGNS = "abcdefghijkmnpqrstuvwxyz23456789";

/** Fifteen signs of five bits each, in three groups: 75 bits. */
const GROUPS = 3;
const GROUP_LENGTH = 5;

/** For example `k7m2p-9xqpa-te5wh`: 17 ASCII characters, below the 31 that every importer takes. */
export function makePassphrase(): string {
  const random = crypto.getRandomValues(new Uint8Array(GROUPS * GROUP_LENGTH));
  const signs = Array.from(random, (byte) => SIGNS.charAt(byte & 31));
  const groups = Array.from({ length: GROUPS }, (_, i) => signs.slice(i * GROUP_LENGTH, (i + 1) * GROUP_LENGTH).join(""));
  return groups.join("-");
}
