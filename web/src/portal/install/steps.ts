// How to install the file, for each platform, in the words that its own screens use.
import type { Platform } from "./platform";

export interface Step {
  say: string;
  /** A command to type. */
  command?: string;
}

export interface Guide {
  steps: Step[];
  note?: string;
}

/** @param file name of the downloaded file */
export function guideFor(platform: Platform, file: string): Guide {
  switch (platform) {
    case "apple_mobile":
      return {
        steps: [
          { say: "Use Safari for this page: other browsers on this device cannot hand the file to the system." },
          { say: `Open the Files app, folder Downloads, and tap ${file}. If asked, choose this device.` },
          { say: "Open Settings. At the top stands Profile Downloaded; else look in General, VPN & Device Management." },
          { say: "Tap Install, enter the code of your device, then the password from above. “Not signed” is expected." },
          { say: "Open the app's address in Safari. When it asks, choose the new certificate." },
        ],
        note: "Only Safari and Apple's own apps use it. Apps that import a certificate themselves, such as Home Assistant or Immich, take the same file.",
      };
    case "macos":
      return {
        steps: [
          { say: `Open ${file} from your downloads. Keychain Access asks where to put it: choose login.` },
          { say: "Enter the password from above." },
          { say: "Restart Safari or Chrome and open the app's address. Choose the certificate, then Always Allow." },
        ],
        note: "Firefox keeps its own list: Settings, Privacy & Security, View Certificates, Your Certificates, Import.",
      };
    case "android":
      return {
        steps: [
          { say: "Your phone needs a screen lock; set one if it has none." },
          { say: "Open Settings and search for “install a certificate”. Choose VPN and app user certificate, not CA certificate." },
          { say: `Choose ${file} from Downloads and enter the password from above.` },
          { say: "Give it a name and confirm. Open the app's address in Chrome and choose the certificate." },
        ],
      };
    case "windows":
      return {
        steps: [
          { say: `Open ${file} from your downloads. The Certificate Import Wizard starts: choose Current User.` },
          { say: "Enter the password from above and let Windows choose the store." },
          { say: "Or, in PowerShell:", command: `Import-PfxCertificate -FilePath .\\${file} -CertStoreLocation Cert:\\CurrentUser\\My -Password (Read-Host -AsSecureString)` },
          { say: "Restart Edge or Chrome, open the app's address and choose the certificate." },
        ],
        note: "Firefox asks Windows for it in current versions; else: Settings, Privacy & Security, View Certificates, Your Certificates, Import.",
      };
    case "linux":
      return {
        steps: [
          { say: "Chrome and Chromium: install it into their store, and enter the password when asked:", command: `pk12util -d "sql:$HOME/.pki/nssdb" -i ${file}` },
          { say: "Or in the browser: Settings, Privacy and security, Security, Manage certificates, Your certificates, Import." },
          { say: "Firefox: Settings, Privacy & Security, View Certificates, Your Certificates, Import." },
          { say: "Restart the browser, open the app's address and choose the certificate." },
        ],
      };
    case "curl":
      return {
        steps: [
          { say: "curl reads the file as it is, and asks for the password:", command: `curl --cert-type P12 --cert ${file} https://app.example.org/` },
          { say: "For tools that want PEM:", command: `openssl pkcs12 -in ${file} -nodes -out device.pem && chmod 600 device.pem` },
        ],
        note: "The PEM file is not protected by a password. For machines, better let the command line of Wicketgate make the key in place.",
      };
  }
}
