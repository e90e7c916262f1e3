// A copy of the audit as `wicketgate audit export` writes it, line for line, made in the page; the chain
// is followed on the way. `wicketgate audit verify` reads it. The encoding is the server's version 1.
import { Problem } from "$lib/api/problem";
import type { AuditCheckpoint, AuditEvent, AuditLink } from "$lib/api/types";

const FORMAT = "wicketgate-audit-1";
/** More than this is for the command line, which writes as it reads. */
const MOST_LINKS = 200_000;

/** Where the lines come from. */
export interface Source {
  /** Signs what is chained by now. */
  sign: () => Promise<AuditCheckpoint>;
  keys: () => Promise<{ key_id: string; pem: string }[]>;
  checkpoints: () => AsyncIterable<AuditCheckpoint>;
  links: () => AsyncIterable<AuditLink>;
  unchained: () => AsyncIterable<AuditEvent>;
}

export interface Written {
  file: Blob;
  links: number;
  unchained: number;
  checkpoint: AuditCheckpoint;
  /** The first link that does not follow from the one before; nothing when all do. */
  brokenAt: number | undefined;
}

const utf8 = new TextEncoder();
const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

function eight(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, value);
  return bytes;
}

/** The columns of an event in the order of its row, without what belongs to its place in the chain. */
function columns(event: AuditEvent): [string, string | undefined][] {
  const { id, at, phase, act, actor, action, object_kind, object_id, outcome, detail, request_id } = event;
  return Object.entries({ id, at, phase, act, actor, action, object_kind, object_id, outcome, detail, request_id });
}

/** The hash of link `number` over `event`, behind the link of hash `before`. */
export async function linkHash(before: Uint8Array, number: number, event: AuditEvent): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  const put = (part: Uint8Array): void => void parts.push(eight(BigInt(part.length)), part);
  put(utf8.encode("wicketgate audit link 1"));
  parts.push(before, eight(BigInt(number)));
  for (const [name, text] of columns(event)) {
    if (name === "at") {
      put(eight(BigInt(Date.parse(event.at) / 1000)));
      continue;
    }
    // From here on a column may be absent, which is not the same as empty.
    if (["object_kind", "object_id", "outcome", "detail", "request_id"].includes(name)) parts.push(new Uint8Array([text === undefined ? 0 : 1]));
    put(utf8.encode(text ?? ""));
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", await new Blob(parts as BlobPart[]).arrayBuffer()));
}

const plain = (event: AuditEvent): object => Object.fromEntries(columns(event).filter(([, text]) => text !== undefined));
const statement = ({ installation_id, number, hash, at, key_id, signature }: AuditCheckpoint): object => ({ installation_id, number, hash, at, key_id, signature });
const spki = (pem: string): string => pem.replaceAll(/-----[^-]+-----|\s/g, "");

/** Writes the copy; `progress` hears how many links are in it so far. */
export async function writeExport(source: Source, progress: (links: number) => void, now = Date.now()): Promise<Written> {
  const last = await source.sign();
  if (last.number > MOST_LINKS) {
    throw new Problem(0, "too_long", `The chain has ${last.number} links, too many for a page. On the server: wicketgate audit export --to FILE`);
  }
  const lines: string[] = [];
  const line = (what: object): void => void lines.push(`${JSON.stringify(what)}\n`);
  const keys = (await source.keys()).map(({ key_id, pem }) => ({ key_id, spki: spki(pem) }));
  const exported_at = new Date(now).toISOString().replace(/\.\d+Z$/, "Z");
  line({ header: { format: FORMAT, installation_id: last.installation_id, exported_at, keys } });

  const checkpoints = source.checkpoints()[Symbol.asyncIterator]();
  let waiting = await checkpoints.next();
  const counts = { links: 0, checkpoints: 0, unchained: 0 };
  let hash: Uint8Array = new Uint8Array(32);
  let brokenAt: number | undefined;
  for await (const link of source.links()) {
    // The chain goes on while it is read.
    if (link.number > last.number) break;
    line({ link: { number: link.number, hash: link.hash, ...(link.event ? { event: plain(link.event) } : {}) } });
    counts.links++;
    if (brokenAt === undefined) {
      if (link.event) hash = await linkHash(hash, counts.links, link.event);
      if (!link.event || link.number !== counts.links || hex(hash) !== link.hash) brokenAt = link.number;
    }
    while (!waiting.done && waiting.value.number <= link.number) {
      line({ checkpoint: statement(waiting.value) });
      counts.checkpoints++;
      waiting = await checkpoints.next();
    }
    if (counts.links % 500 === 0) progress(counts.links);
  }
  for await (const event of source.unchained()) {
    line({ unchained: plain(event) });
    counts.unchained++;
  }
  const sha256 = hex(new Uint8Array(await crypto.subtle.digest("SHA-256", await new Blob(lines).arrayBuffer())));
  line({ end: { ...counts, sha256 } });
  return { file: new Blob(lines, { type: "application/x-ndjson" }), links: counts.links, unchained: counts.unchained, checkpoint: last, brokenAt };
}
