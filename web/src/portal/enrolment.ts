// One enrolment or renewal, from the key to the file. The key lives in this object only.
import { api, ask } from "$lib/api/client";
import { Problem } from "$lib/api/problem";
import type { Certificate } from "$lib/api/types";
import { holdsKey, makeKey, privateKeyDer, signingRequest } from "$lib/crypto/csr";
import { fromPem, type Bytes } from "$lib/crypto/der";
import { makePassphrase } from "$lib/crypto/passphrase";
import { writePkcs12, type Encoding } from "$lib/crypto/pkcs12";

/** What the certificate is asked for. */
export type Wish =
  | { kind: "new"; deviceName: string }
  | { kind: "device"; deviceId: string; deviceName: string }
  | { kind: "renewal"; serial: string; deviceName: string };

export class Enrolment {
  readonly password = makePassphrase();

  private constructor(
    readonly certificate: Certificate,
    readonly deviceName: string,
    private readonly contents: { key: Bytes; certificate: Bytes; chain: Bytes[] },
    /** The serial of the certificate that it renews, if it does. */
    readonly renewed: string | undefined,
  ) {}

  /** Makes a key, has it certified and checks that the answer is for that key. */
  static async run(wish: Wish): Promise<Enrolment> {
    if (!globalThis.isSecureContext || !("subtle" in crypto)) {
      throw new Problem(0, "no_web_crypto", "This browser cannot make keys here. Use a current browser, over https.");
    }
    const pair = await makeKey();
    const certificate = await request(wish, await signingRequest(pair, wish.deviceName));
    const [leaf] = fromPem("CERTIFICATE", certificate.pem);
    if (!leaf || !(await holdsKey(leaf, pair))) {
      throw new Problem(0, "wrong_certificate", "The certificate that came back is not for the key made here. Do not use it.");
    }
    // Some servers repeat the leaf in the chain; it belongs into the file once.
    const chain = fromPem("CERTIFICATE", certificate.chain_pem).filter((link) => !equal(link, leaf));
    const contents = { key: await privateKeyDer(pair), certificate: leaf, chain };
    return new Enrolment(certificate, wish.deviceName, contents, wish.kind === "renewal" ? wish.serial : undefined);
  }

  get fileName(): string {
    const plain = this.deviceName.normalize("NFKD").replace(/['’\u0300-\u036f]/g, "").replace(/[^A-Za-z0-9]+/g, "-");
    return `${plain.replace(/^-|-$/g, "").toLowerCase() || "device"}.p12`;
  }

  async file(encoding: Encoding): Promise<Blob> {
    const { contents, password, deviceName } = this;
    const bytes = await writePkcs12(encoding, { ...contents, friendlyName: deviceName, password });
    return new Blob([bytes], { type: "application/x-pkcs12" });
  }
}

function request(wish: Wish, csr: string): Promise<Certificate> {
  switch (wish.kind) {
    case "new":
      return ask(api.POST("/api/v1/certificates", { body: { csr, device_name: wish.deviceName } }));
    case "device":
      return ask(api.POST("/api/v1/certificates", { body: { csr, device_id: wish.deviceId } }));
    case "renewal": {
      const params = { path: { serial: wish.serial } };
      return ask(api.POST("/api/v1/certificates/{serial}/renewal", { params, body: { csr } }));
    }
  }
}

const equal = (a: Bytes, b: Bytes): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);
