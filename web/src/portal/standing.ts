// What a device's certificates mean for its owner, besides the one that counts. Pure.
import type { Certificate, Device } from "$lib/api/types";

/** One that a renewal replaced and that still works. */
export interface Before {
  serial: string;
  /** The last moment in which it works. */
  until: string;
  /** Whether it is taken back then; otherwise it ends by itself. */
  isTakenBack: boolean;
}

/** Until when a certificate that was replaced works. */
export function endOf({ serial, not_after, supersede_at }: Certificate): Before {
  const isTakenBack = supersede_at !== undefined && Date.parse(supersede_at) < Date.parse(not_after);
  return { serial, until: isTakenBack ? supersede_at : not_after, isTakenBack };
}

/** Of the certificates that pass, those of this device that its present one replaced; the last to end first. */
export function before(device: Device, active: Certificate[]): Before[] {
  return active
    .filter((one) => one.device_id === device.id && one.serial !== device.current_serial && one.replaced_by !== undefined)
    .map(endOf)
    .sort((a, b) => Date.parse(b.until) - Date.parse(a.until));
}

/** Since when a device is held: when its newest certificate on hold was. */
export function heldSince(device: Device, revoked: Certificate[]): string | undefined {
  return revoked
    .filter((one) => one.device_id === device.id && one.revocation_reason === "certificateHold")
    .sort((a, b) => Date.parse(b.issued_at) - Date.parse(a.issued_at))[0]?.revoked_at;
}
