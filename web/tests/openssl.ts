// Runs the tools of other makers that read our files. In CI a missing openssl is a failure.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export function has(tool: string, ...probe: string[]): boolean {
  return spawnSync(tool, probe, { stdio: "ignore" }).error === undefined;
}

export function run(tool: string, args: string[], input?: string): { status: number | null; out: string } {
  const done = spawnSync(tool, args, { encoding: "utf8", ...(input === undefined ? {} : { input }) });
  if (done.error) throw done.error;
  return { status: done.status, out: done.stdout + done.stderr };
}

/** A folder that lives as long as `use` runs. */
export async function withFolder<T>(use: (path: (name: string) => string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "wicketgate-web-"));
  try {
    return await use((name) => join(folder, name));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Throws in CI when openssl is missing; elsewhere the caller may skip. */
export function hasOpenssl(): boolean {
  const found = has("openssl", "version");
  if (!found && process.env["CI"] === "true") throw new Error("openssl is missing, and CI must not skip these tests");
  return found;
}

export interface Issued {
  leafPem: string;
  issuerPem: string;
}

/** Lets openssl sign a request with a throw-away authority. */
export function issue(path: (name: string) => string, csrPem: string): Issued {
  writeFileSync(path("csr.pem"), csrPem);
  const ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  must("openssl", ["req", "-x509", ...ec, "-subj", "/CN=Test Issuing", "-days", "2", "-keyout", path("ca.key"), "-out", path("ca.pem")]);
  must("openssl", ["x509", "-req", "-in", path("csr.pem"), "-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-days", "1", "-out", path("leaf.pem")]);
  return { leafPem: must("openssl", ["x509", "-in", path("leaf.pem")]), issuerPem: must("openssl", ["x509", "-in", path("ca.pem")]) };
}

export function must(tool: string, args: string[]): string {
  const { status, out } = run(tool, args);
  if (status !== 0) throw new Error(`${tool} ${args.join(" ")}: ${out}`);
  return out;
}
