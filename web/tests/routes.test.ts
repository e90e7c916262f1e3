import { describe, expect, test } from "vitest";
import type { RouteOptions } from "../src/lib/api/types";
import { draftOfRouteOptions, newRule, pointersOf, routeOptionsOf } from "../src/console/route-options";

describe("options of routes", () => {
  test("nothing stands in the form as nothing, and is not sent", () => {
    for (const options of [undefined, {}]) {
      const draft = draftOfRouteOptions(options);
      expect(draft).toMatchObject({ rules: [], maxBody: "", compression: false, cookies: { sameSite: "" } });
      expect(routeOptionsOf(draft)).toEqual({});
    }
  });

  test("what was read is sent again, and what the form does not know, too", () => {
    const options = {
      rate: [
        { per: "person", requests: 100, seconds: 10 },
        { per: "everyone", requests: 5, seconds: 60, burst: 20 },
      ],
      max_body_mib: 64,
      headers: {
        hsts: { max_age_seconds: 31_536_000, include_subdomains: true, preload: true },
        content_security_policy: "default-src 'self'",
        frame_options: "deny",
        content_type_options: true,
        referrer_policy: "no-referrer",
        permissions_policy: "camera=()",
        override: true,
      },
      cookies: { secure: true, http_only: true, same_site: "none" },
      compression: true,
      maintenance: { enabled: true, message: "Until noon.", retry_after_seconds: 60, allow: { people: ["1"], groups: ["staff"] } },
      later: true,
    } as RouteOptions;
    expect(routeOptionsOf(draftOfRouteOptions(options), options)).toEqual(options);
    expect(routeOptionsOf(draftOfRouteOptions(), options)).toEqual({ later: true });
  });

  test("an emptied field counts as not given", () => {
    const rule = { ...newRule(), burst: null as unknown as "" };
    const nothing = draftOfRouteOptions();
    const headers = { ...nothing.headers, maxAge: null as unknown as "", csp: " " };
    const options = routeOptionsOf({ ...nothing, rules: [rule], maxBody: null as unknown as "", headers });
    expect(options).toEqual({ rate: [{ per: "person", requests: 100, seconds: 10 }] });
  });

  test("every field has a place for what is wrong with it", () => {
    const pointers = pointersOf({ ...draftOfRouteOptions(), rules: [newRule(), newRule()] });
    expect(pointers).toContain("/options/rate/1/burst");
    expect(pointers).toContain("/options/headers/hsts/preload");
    expect(pointers).toHaveLength(13);
  });

  test("what is said of a maintenance stays while the route is open", () => {
    const maintenance = { enabled: false, message: "Until noon." };
    expect(routeOptionsOf(draftOfRouteOptions({ maintenance }))).toEqual({ maintenance });
    const zero = { headers: { hsts: { max_age_seconds: 0 } } };
    expect(routeOptionsOf(draftOfRouteOptions(zero))).toEqual(zero);
  });
});
