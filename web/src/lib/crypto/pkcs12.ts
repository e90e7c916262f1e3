// Writes a PKCS#12 file (RFC 7292): one key, its certificate and the chain, under one password.
// `modern` is what current systems read, `compat` what older ones do; never RC2.
import * as der from "./der";
import type { Bytes } from "./der";
import { tripleDesCbc } from "./des";
import { localKeyId } from "./csr";
import { deriveKey, KEY_ID, IV_ID, MAC_ID } from "./pkcs12-kdf";

export type Encoding = "modern" | "compat";

export interface Contents {
  /** PKCS#8, DER. */
  key: Bytes;
  /** DER; the device's own certificate. */
  certificate: Bytes;
  /** DER; from the issuing authority up. iOS needs the issuing one inside. */
  chain: Bytes[];
  /** What certificate lists on the device show. */
  friendlyName: string;
  /** ASCII, 1 to 31 characters. */
  password: string;
}

/** Eight bytes: importers of macOS have refused longer ones. */
const SALT_LENGTH = 8;
/** The usual count for PKCS#12; the generated password carries the strength, not the count. */
const ITERATIONS = 2048;
const PASSWORD_MAX = 31;

const OID = {
  data: "1.2.840.113549.1.7.1",
  encryptedData: "1.2.840.113549.1.7.6",
  keyBag: "1.2.840.113549.1.12.10.1.2",
  certificateBag: "1.2.840.113549.1.12.10.1.3",
  x509: "1.2.840.113549.1.9.22.1",
  friendlyName: "1.2.840.113549.1.9.20",
  localKeyId: "1.2.840.113549.1.9.21",
  pbes2: "1.2.840.113549.1.5.13",
  pbkdf2: "1.2.840.113549.1.5.12",
  hmacSha256: "1.2.840.113549.2.9",
  aes256Cbc: "2.16.840.1.101.3.4.1.42",
  sha1And3Des: "1.2.840.113549.1.12.1.3",
  sha1: "1.3.14.3.2.26",
  sha256: "2.16.840.1.101.3.4.2.1",
} as const;

/** Throws a RangeError for a password that some importer would refuse. */
export async function writePkcs12(encoding: Encoding, contents: Contents): Promise<Bytes> {
  const { password } = contents;
  if (!/^[\x21-\x7e]+$/.test(password) || password.length > PASSWORD_MAX) throw new RangeError("not a portable password");
  const encrypt = encoding === "modern" ? encryptModern : encryptCompat;

  const attributes = await leafAttributes(contents);
  const bags = der.sequence(
    certificateBag(contents.certificate, attributes),
    ...contents.chain.map((certificate) => certificateBag(certificate)),
  );
  const sealedBags = await encrypt(bags, password);
  const sealedKey = await encrypt(contents.key, password);
  const keyBag = der.sequence(
    der.oid(OID.keyBag),
    der.explicit(0, der.sequence(sealedKey.algorithm, der.octets(sealedKey.bytes))),
    attributes,
  );
  const safe = der.sequence(encryptedContent(sealedBags), dataContent(der.sequence(keyBag)));
  return der.sequence(der.integer(3), dataContent(safe), await macData(encoding, safe, password));
}

interface Sealed {
  algorithm: Bytes;
  bytes: Bytes;
}

function certificateBag(certificate: Bytes, attributes?: Bytes): Bytes {
  const value = der.sequence(der.oid(OID.x509), der.explicit(0, der.octets(certificate)));
  return der.sequence(der.oid(OID.certificateBag), der.explicit(0, value), ...(attributes ? [attributes] : []));
}

/** Joins the key and its certificate, and names them. */
async function leafAttributes({ certificate, friendlyName }: Contents): Promise<Bytes> {
  return der.setOf(
    der.sequence(der.oid(OID.friendlyName), der.setOf(der.bmp(friendlyName))),
    der.sequence(der.oid(OID.localKeyId), der.setOf(await localKeyId(certificate))),
  );
}

function dataContent(content: Bytes): Bytes {
  return der.sequence(der.oid(OID.data), der.explicit(0, der.octets(content)));
}

function encryptedContent({ algorithm, bytes }: Sealed): Bytes {
  const info = der.sequence(der.oid(OID.data), algorithm, der.implicit(0, bytes));
  return der.sequence(der.oid(OID.encryptedData), der.explicit(0, der.sequence(der.integer(0), info)));
}

/** PBES2 (RFC 8018): PBKDF2 with HMAC-SHA-256, AES-256 in CBC mode. */
async function encryptModern(plain: Bytes, password: string): Promise<Sealed> {
  const salt = random(SALT_LENGTH);
  const iv = random(16);
  const base = await crypto.subtle.importKey("raw", new TextEncoder().encode(password), "PBKDF2", false, ["deriveKey"]);
  const key = await crypto.subtle.deriveKey(
    { name: "PBKDF2", hash: "SHA-256", salt, iterations: ITERATIONS },
    base,
    { name: "AES-CBC", length: 256 },
    false,
    ["encrypt"],
  );
  const bytes = new Uint8Array(await crypto.subtle.encrypt({ name: "AES-CBC", iv }, key, plain));
  const derivation = der.sequence(
    der.oid(OID.pbkdf2),
    der.sequence(der.octets(salt), der.integer(ITERATIONS), der.sequence(der.oid(OID.hmacSha256), der.nothing())),
  );
  const cipher = der.sequence(der.oid(OID.aes256Cbc), der.octets(iv));
  return { algorithm: der.sequence(der.oid(OID.pbes2), der.sequence(derivation, cipher)), bytes };
}

/** pbeWithSHAAnd3-KeyTripleDES-CBC (RFC 7292, appendix C). */
async function encryptCompat(plain: Bytes, password: string): Promise<Sealed> {
  const salt = random(SALT_LENGTH);
  const [key, iv] = await Promise.all([
    deriveKey("SHA-1", KEY_ID, password, salt, ITERATIONS, 24),
    deriveKey("SHA-1", IV_ID, password, salt, ITERATIONS, 8),
  ]);
  const parameters = der.sequence(der.octets(salt), der.integer(ITERATIONS));
  return { algorithm: der.sequence(der.oid(OID.sha1And3Des), parameters), bytes: tripleDesCbc(key, iv, plain) };
}

async function macData(encoding: Encoding, safe: Bytes, password: string): Promise<Bytes> {
  const [hash, length, hashOid] =
    encoding === "modern" ? (["SHA-256", 32, OID.sha256] as const) : (["SHA-1", 20, OID.sha1] as const);
  const salt = random(SALT_LENGTH);
  const raw = await deriveKey(hash, MAC_ID, password, salt, ITERATIONS, length);
  const key = await crypto.subtle.importKey("raw", raw, { name: "HMAC", hash }, false, ["sign"]);
  const mac = new Uint8Array(await crypto.subtle.sign("HMAC", key, safe));
  const digest = der.sequence(der.sequence(der.oid(hashOid), der.nothing()), der.octets(mac));
  return der.sequence(digest, der.octets(salt), der.integer(ITERATIONS));
}

function random(length: number): Bytes {
  return crypto.getRandomValues(new Uint8Array(length));
}
