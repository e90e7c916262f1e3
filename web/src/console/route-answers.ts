// What a route does to the answers of its app, and what it says while it is closed: from and to the form. Pure. What
// fits is checked by the server (`domain/route/`).
import type { RouteOptions } from "$lib/api/types";

type Headers = NonNullable<RouteOptions["headers"]>;
type Cookies = NonNullable<RouteOptions["cookies"]>;
type Maintenance = NonNullable<RouteOptions["maintenance"]>;
export type FrameOptions = NonNullable<Headers["frame_options"]>;
export type ReferrerPolicy = NonNullable<Headers["referrer_policy"]>;
export type SameSite = NonNullable<Cookies["same_site"]>;

export const MOST_AGE_SECONDS = 315_360_000;
export const MOST_RETRY_SECONDS = 604_800;
export const MOST_CHARACTERS = 500;

export const FRAMES: Record<FrameOptions | "", string> = {
  "": "As the app says",
  deny: "Nobody",
  sameorigin: "Pages of the same site",
};

export const REFERRERS: Record<ReferrerPolicy | "", string> = {
  "": "As the app says",
  "no-referrer": "Nothing",
  "same-origin": "Everything, to this site only",
  "strict-origin": "The site's name, over https",
  "strict-origin-when-cross-origin": "Everything to this site, its name to others over https",
  "no-referrer-when-downgrade": "Everything, over https",
  origin: "The site's name",
  "origin-when-cross-origin": "Everything to this site, its name to others",
  "unsafe-url": "Everything, to everybody",
};

export const SAME_SITES: Record<SameSite | "", string> = {
  "": "As the app says",
  lax: "This site's pages, and links to it (Lax)",
  strict: "This site's pages only (Strict)",
  none: "Everybody's pages (None)",
};

/** What stands in the form. An empty text or number is not given. */
export interface AnswersDraft {
  headers: {
    maxAge: number | "";
    subdomains: boolean;
    preload: boolean;
    csp: string;
    frames: FrameOptions | "";
    nosniff: boolean;
    referrer: ReferrerPolicy | "";
    permissions: string;
    override: boolean;
  };
  cookies: { secure: boolean; httpOnly: boolean; sameSite: SameSite | "" };
  compression: boolean;
  maintenance: { enabled: boolean; message: string; retryAfter: number | ""; people: string[]; groups: string[] };
}

export function draftOfAnswers({ headers, cookies, compression, maintenance }: RouteOptions): AnswersDraft {
  return {
    headers: {
      maxAge: headers?.hsts?.max_age_seconds ?? "",
      subdomains: headers?.hsts?.include_subdomains ?? false,
      preload: headers?.hsts?.preload ?? false,
      csp: headers?.content_security_policy ?? "",
      frames: headers?.frame_options ?? "",
      nosniff: headers?.content_type_options ?? false,
      referrer: headers?.referrer_policy ?? "",
      permissions: headers?.permissions_policy ?? "",
      override: headers?.override ?? false,
    },
    cookies: { secure: cookies?.secure ?? false, httpOnly: cookies?.http_only ?? false, sameSite: cookies?.same_site ?? "" },
    compression: compression ?? false,
    maintenance: {
      enabled: maintenance?.enabled ?? false,
      message: maintenance?.message ?? "",
      retryAfter: maintenance?.retry_after_seconds ?? "",
      people: maintenance?.allow?.people ?? [],
      groups: maintenance?.allow?.groups ?? [],
    },
  };
}

// An emptied field of the browser holds null, whatever its type says.
const isGiven = (value: number | ""): value is number => typeof value === "number";
const filled = <Value extends object>(value: Value): Value | undefined => (Object.keys(value).length > 0 ? value : undefined);

/** What of it is asked for, as short as it can be said. */
export function answersOf(draft: AnswersDraft): Pick<RouteOptions, "headers" | "cookies" | "compression" | "maintenance"> {
  const [headers, cookies, maintenance] = [headersOf(draft.headers), cookiesOf(draft.cookies), maintenanceOf(draft.maintenance)];
  return {
    ...(headers && { headers }),
    ...(cookies && { cookies }),
    ...(draft.compression && { compression: true }),
    ...(maintenance && { maintenance }),
  };
}

function headersOf(draft: AnswersDraft["headers"]): Headers | undefined {
  const [csp, permissions] = [draft.csp.trim(), draft.permissions.trim()];
  const hsts = isGiven(draft.maxAge) && {
    max_age_seconds: draft.maxAge,
    ...(draft.subdomains && { include_subdomains: true }),
    ...(draft.preload && { preload: true }),
  };
  return filled<Headers>({
    ...(hsts && { hsts }),
    ...(csp && { content_security_policy: csp }),
    ...(draft.frames && { frame_options: draft.frames }),
    ...(draft.nosniff && { content_type_options: true }),
    ...(draft.referrer && { referrer_policy: draft.referrer }),
    ...(permissions && { permissions_policy: permissions }),
    ...(draft.override && { override: true }),
  });
}

function cookiesOf({ secure, httpOnly, sameSite }: AnswersDraft["cookies"]): Cookies | undefined {
  return filled<Cookies>({
    ...(secure && { secure }),
    ...(httpOnly && { http_only: true }),
    ...(sameSite && { same_site: sameSite }),
  });
}

function maintenanceOf({ enabled, message, retryAfter, people, groups }: AnswersDraft["maintenance"]): Maintenance | undefined {
  const allow = filled({ ...(people.length > 0 && { people }), ...(groups.length > 0 && { groups }) });
  const text = message.trim();
  const rest = filled({
    ...(text && { message: text }),
    ...(isGiven(retryAfter) && { retry_after_seconds: retryAfter }),
    ...(allow && { allow }),
  });
  return enabled || rest ? { enabled, ...rest } : undefined;
}

/** Where messages about these fields point to. */
export const ANSWER_POINTERS: readonly string[] = [
  "/options/headers/hsts/max_age_seconds",
  "/options/headers/hsts/preload",
  "/options/headers/content_security_policy",
  "/options/headers/permissions_policy",
  "/options/maintenance/message",
  "/options/maintenance/retry_after_seconds",
];
