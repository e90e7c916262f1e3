// Guesses the device one is holding, to offer the fitting file and steps first. A guess only:
// everything else stays one click away.
import type { Encoding } from "$lib/crypto/pkcs12";

export type Platform = "apple_mobile" | "macos" | "android" | "windows" | "linux" | "curl";

export const PLATFORMS: { id: Platform; label: string }[] = [
  { id: "apple_mobile", label: "iPhone, iPad" },
  { id: "macos", label: "Mac" },
  { id: "android", label: "Android" },
  { id: "windows", label: "Windows" },
  { id: "linux", label: "Linux" },
  { id: "curl", label: "curl, scripts" },
];

export interface Here {
  platform: Platform;
  /** A name to begin with, for example “iPhone”. */
  deviceName: string;
}

interface Browser {
  userAgent: string;
  maxTouchPoints: number;
}

export function detect(browser: Browser): Here {
  const { userAgent: agent, maxTouchPoints } = browser;
  if (/iPhone|iPod/.test(agent)) return { platform: "apple_mobile", deviceName: "iPhone" };
  // An iPad calls itself a Mac, but no Mac has a touch screen.
  if (/iPad/.test(agent) || (/Macintosh/.test(agent) && maxTouchPoints > 1)) {
    return { platform: "apple_mobile", deviceName: "iPad" };
  }
  if (/Android/.test(agent)) return { platform: "android", deviceName: "Android phone" };
  if (/Macintosh/.test(agent)) return { platform: "macos", deviceName: "Mac" };
  if (/Windows/.test(agent)) return { platform: "windows", deviceName: "Windows PC" };
  return { platform: "linux", deviceName: "Linux computer" };
}

/**
 * Which encoding to offer first. Apple's systems read `modern` only in recent versions and call it a
 * wrong password before; Android's importer differs by version and maker. `compat` opens on both.
 */
export function encodingFor(platform: Platform): Encoding {
  return platform === "apple_mobile" || platform === "macos" || platform === "android" ? "compat" : "modern";
}
