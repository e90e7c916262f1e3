// Makes the device's key and its PKCS#10 signing request (RFC 2986). The key never leaves the page
// except inside the file that its owner downloads.
import { bits, concat, integer, octets, oid, sequence, setOf, tlv, toPem, utf8, type Bytes } from "./der";

const ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2";
const COMMON_NAME = "2.5.4.3";

/** Extractable, because it has to end in a file: the honest limit of a key made in a browser. */
export async function makeKey(): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
}

/**
 * A PEM request for that key. The server takes only the key from it: the name is a courtesy for
 * tools that refuse an empty subject.
 */
export async function signingRequest(pair: CryptoKeyPair, commonName: string): Promise<string> {
  const spki = new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey));
  const subject = sequence(setOf(sequence(oid(COMMON_NAME), utf8(commonName))));
  // Attributes are [0] IMPLICIT SET OF and must be present even when empty.
  const info = sequence(integer(0), subject, spki, tlv(0xa0));
  const raw = await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, pair.privateKey, info);
  const request = sequence(info, sequence(oid(ECDSA_WITH_SHA256)), bits(ecdsaValue(new Uint8Array(raw))));
  return toPem("CERTIFICATE REQUEST", request);
}

export async function privateKeyDer(pair: CryptoKeyPair): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.exportKey("pkcs8", pair.privateKey));
}

/** Whether a certificate carries the public half of that key: its DER holds the key's SPKI whole. */
export async function holdsKey(certificate: Uint8Array, pair: CryptoKeyPair): Promise<boolean> {
  const spki = new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey));
  for (let at = 0; at + spki.length <= certificate.length; at++) {
    if (spki.every((byte, i) => certificate[at + i] === byte)) return true;
  }
  return false;
}

/** WebCrypto signs as r || s (IEEE P1363); X.509 wants a SEQUENCE of two INTEGERs (RFC 3279 §2.2.3). */
function ecdsaValue(raw: Bytes): Bytes {
  const half = raw.length / 2;
  return sequence(integer(raw.subarray(0, half)), integer(raw.subarray(half)));
}

/** The SHA-1 of a certificate: by convention the local key id that joins it to its key in PKCS#12. */
export async function localKeyId(certificate: Bytes): Promise<Bytes> {
  return octets(concat(new Uint8Array(await crypto.subtle.digest("SHA-1", certificate))));
}
