import { describe, expect, test } from "vitest";
import type { RouteOptions } from "../src/lib/api/types";
import { draftOfRouteOptions, newRule, pointersOf, routeOptionsOf } from "../src/console/route-options";

describe("options of routes", () => {
  test("nothing stands in the form as nothing, and is not sent", () => {
    for (const options of [undefined, {}]) {
      const draft = draftOfRouteOptions(options);
      expect(draft).toEqual({ rules: [], maxBody: "" });
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
      later: true,
    } as RouteOptions;
    expect(routeOptionsOf(draftOfRouteOptions(options), options)).toEqual(options);
    const none = { rules: [], maxBody: "" } as const;
    expect(routeOptionsOf({ ...none, rules: [] }, options)).toEqual({ later: true });
  });

  test("an emptied field counts as not given", () => {
    const rule = { ...newRule(), burst: null as unknown as "" };
    const options = routeOptionsOf({ rules: [rule], maxBody: null as unknown as "" });
    expect(options).toEqual({ rate: [{ per: "person", requests: 100, seconds: 10 }] });
  });

  test("every field has a place for what is wrong with it", () => {
    const pointers = pointersOf({ rules: [newRule(), newRule()], maxBody: "" });
    expect(pointers).toContain("/options/rate/1/burst");
    expect(pointers).toHaveLength(7);
  });
});
