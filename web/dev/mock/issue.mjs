// Lets openssl sign requests with a throw-away authority, so that downloads from the mock are real.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

function openssl(...args) {
  const done = spawnSync("openssl", args, { encoding: "utf8" });
  if (done.status !== 0) throw new Error(done.stderr);
}

export function issue(csr, days) {
  const folder = mkdtempSync(join(tmpdir(), "wicketgate-mock-"));
  const path = (name) => join(folder, name);
  try {
    writeFileSync(path("csr.pem"), csr);
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=Mock Issuing", "-days", "999", "-keyout", path("ca.key"), "-out", path("ca.pem"));
    openssl("x509", "-req", "-in", path("csr.pem"), "-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-days", String(days), "-out", path("leaf.pem"));
    return { pem: readFileSync(path("leaf.pem"), "utf8"), chain_pem: readFileSync(path("ca.pem"), "utf8") };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
