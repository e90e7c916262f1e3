import { mkdirSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { holdsKey, makeKey, privateKeyDer, signingRequest } from "../src/lib/crypto/csr";
import { fromPem, toPem, type Bytes } from "../src/lib/crypto/der";
import { makePassphrase } from "../src/lib/crypto/passphrase";
import { writePkcs12, type Encoding } from "../src/lib/crypto/pkcs12";
import { has, hasOpenssl, issue, must, run, withFolder } from "./openssl";

const openssl = hasOpenssl();
const encodings: Encoding[] = ["modern", "compat"];

interface Made {
  file: Bytes;
  password: string;
  keyPem: string;
  leaf: Bytes;
}

async function makeFile(path: (name: string) => string, encoding: Encoding): Promise<Made> {
  const pair = await makeKey();
  const { leafPem, issuerPem } = issue(path, await signingRequest(pair, "Anna Grün"));
  const [leaf] = fromPem("CERTIFICATE", leafPem);
  if (!leaf) throw new Error("no leaf");
  expect(await holdsKey(leaf, pair)).toBe(true);
  const key = await privateKeyDer(pair);
  const password = makePassphrase();
  const chain = fromPem("CERTIFICATE", issuerPem);
  const file = await writePkcs12(encoding, { key, certificate: leaf, chain, friendlyName: "Annas Gerät ✓", password });
  writeFileSync(path("device.p12"), file);
  return { file, password, keyPem: toPem("PRIVATE KEY", key), leaf };
}

test.runIf(openssl)("openssl verifies the request and reads its name", () =>
  withFolder(async (path) => {
    writeFileSync(path("csr.pem"), await signingRequest(await makeKey(), "Anna Grün"));
    const text = must("openssl", ["req", "-in", path("csr.pem"), "-verify", "-noout", "-subject", "-nameopt", "utf8"]);
    expect(text).toContain("verify OK");
    expect(text).toContain("Anna Grün");
  }),
);

describe.runIf(openssl).each(encodings)("openssl opens a %s file", (encoding) => {
  test("and finds key, certificate, chain and name", () =>
    withFolder(async (path) => {
      const { password, keyPem } = await makeFile(path, encoding);
      const legacy = encoding === "compat" ? ["-legacy"] : [];
      const args = ["pkcs12", "-in", path("device.p12"), "-passin", `pass:${password}`, "-nodes", ...legacy];
      const all = must("openssl", args);
      expect(all.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
      expect(all.replace(/\s/g, "")).toContain(keyPem.replace(/\s/g, ""));
      expect(all).toContain("friendlyName");
      const info = must("openssl", [...args, "-info", "-noout"]);
      expect(info).toMatch(
        encoding === "modern" ? /MAC: sha256, Iteration 2048/ : /MAC: sha1, Iteration 2048/,
      );
      expect(info).toMatch(/MAC length: (32|20), salt length: 8/);
      expect(info).toMatch(encoding === "modern" ? /PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256/ : /pbeWithSHA1And3-KeyTripleDES-CBC/);
    }));

  test("and refuses another password", () =>
    withFolder(async (path) => {
      await makeFile(path, encoding);
      const { status, out } = run("openssl", ["pkcs12", "-in", path("device.p12"), "-passin", "pass:wrong", "-noout", "-legacy"]);
      expect(status).not.toBe(0);
      expect(out).toMatch(/invalid password|mac verify/i);
    }));

  test.runIf(has("pk12util", "-v"))("and so does NSS, which Firefox and Chrome on Linux use", () =>
    withFolder(async (path) => {
      const { password } = await makeFile(path, encoding);
      mkdirSync(path("nss"));
      must("certutil", ["-N", "-d", `sql:${path("nss")}`, "--empty-password"]);
      must("pk12util", ["-i", path("device.p12"), "-d", `sql:${path("nss")}`, "-W", password, "-K", ""]);
      expect(must("certutil", ["-K", "-d", `sql:${path("nss")}`])).toContain("Annas Ger");
    }));

  test.runIf(has("keytool", "-help"))("and so does Java", () =>
    withFolder(async (path) => {
      const { password } = await makeFile(path, encoding);
      const text = must("keytool", ["-list", "-v", "-storetype", "PKCS12", "-keystore", path("device.p12"), "-storepass", password]);
      expect(text).toContain("PrivateKeyEntry");
      expect(text).toContain("Certificate chain length: 2");
    }));
});

test("a password that some importer refuses is not used", async () => {
  const nothing = new Uint8Array(0);
  const contents = { key: nothing, certificate: nothing, chain: [], friendlyName: "x" };
  for (const password of ["", "ä", "with space", "x".repeat(32)]) {
    await expect(writePkcs12("modern", { ...contents, password })).rejects.toThrow(RangeError);
  }
});

test("passphrases are short, plain and differ", () => {
  const made = Array.from({ length: 200 }, makePassphrase);
  expect(new Set(made).size).toBe(200);
  for (const one of made) expect(one).toMatch(/^[a-km-np-z2-9]{5}(-[a-km-np-z2-9]{5}){2}$/);
});
