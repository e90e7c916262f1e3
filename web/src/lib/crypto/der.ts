// Writes the little of DER (ITU-T X.690) that a signing request and a PKCS#12 file need,
// and reads PEM. Pure: no keys, no randomness.

/** Bytes over a plain buffer, as WebCrypto wants them. */
export type Bytes = Uint8Array<ArrayBuffer>;

const text = new TextEncoder();

export function concat(...parts: Uint8Array[]): Bytes {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** One tag with its length and content. Lengths are written in the shortest form, as DER asks. */
export function tlv(tag: number, ...content: Uint8Array[]): Bytes {
  const body = concat(...content);
  const length: number[] = [];
  if (body.length < 0x80) {
    length.push(body.length);
  } else {
    for (let rest = body.length; rest > 0; rest >>>= 8) length.unshift(rest & 0xff);
    length.unshift(0x80 | length.length);
  }
  return concat(Uint8Array.of(tag, ...length), body);
}

export const sequence = (...items: Uint8Array[]): Bytes => tlv(0x30, ...items);
export const octets = (value: Uint8Array): Bytes => tlv(0x04, value);
export const utf8 = (value: string): Bytes => tlv(0x0c, text.encode(value));
export const nothing = (): Bytes => tlv(0x05);

/** A SET OF: the encodings are sorted, as DER asks. */
export function setOf(...items: Uint8Array[]): Bytes {
  return tlv(0x31, ...[...items].sort(compare));
}

/** A BIT STRING whose bits fill whole bytes. */
export const bits = (value: Uint8Array): Bytes => tlv(0x03, Uint8Array.of(0), value);

/** `[number]` around content, constructed. */
export const explicit = (number: number, ...content: Uint8Array[]): Bytes => tlv(0xa0 | number, ...content);

/** `[number]` in place of a primitive tag. */
export const implicit = (number: number, value: Uint8Array): Bytes => tlv(0x80 | number, value);

/** A non-negative INTEGER, from a number or from big-endian bytes. */
export function integer(value: number | Uint8Array): Bytes {
  let bytes: number[];
  if (typeof value === "number") {
    bytes = [];
    for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest & 0xff);
  } else {
    bytes = [...value];
    while (bytes[0] === 0) bytes.shift();
  }
  // A set top bit would read as negative.
  if (bytes.length === 0 || (bytes[0] ?? 0) > 0x7f) bytes.unshift(0);
  return tlv(0x02, Uint8Array.from(bytes));
}

/** An OBJECT IDENTIFIER from its dotted form. */
export function oid(dotted: string): Bytes {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const bytes: number[] = [];
  for (const arc of [first * 40 + second, ...rest]) {
    const groups = [arc & 0x7f];
    for (let left = arc >>> 7; left > 0; left >>>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return tlv(0x06, Uint8Array.from(bytes));
}

/** UTF-16 big-endian, as BMPString and the PKCS#12 passwords use it. */
export function utf16(value: string): Bytes {
  const bytes = new Uint8Array(value.length * 2);
  for (let i = 0; i < value.length; i++) {
    bytes[2 * i] = value.charCodeAt(i) >>> 8;
    bytes[2 * i + 1] = value.charCodeAt(i) & 0xff;
  }
  return bytes;
}

export const bmp = (value: string): Bytes => tlv(0x1e, utf16(value));

export function toPem(label: string, der: Uint8Array): string {
  let binary = "";
  for (const byte of der) binary += String.fromCharCode(byte);
  const lines = btoa(binary).match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

/** Every block of that label in a PEM text, in order. */
export function fromPem(label: string, pem: string): Bytes[] {
  const blocks = pem.matchAll(new RegExp(`-----BEGIN ${label}-----([^-]*)-----END ${label}-----`, "g"));
  return [...blocks].map(([, body = ""]) => {
    const binary = atob(body.replace(/\s/g, ""));
    return Uint8Array.from(binary, (char) => char.charCodeAt(0));
  });
}

function compare(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}
