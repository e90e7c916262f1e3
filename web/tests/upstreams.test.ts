import { describe, expect, test } from "vitest";
import type { TargetState, Upstream } from "../src/lib/api/types";
import { formatCount, milliseconds } from "../src/lib/format";
import { Listed } from "../src/lib/load.svelte";
import { alarmOf, failureText, harmOf, healthOf, holding, namesSay, standingOf, targetsOf, type Target } from "../src/console/targets";
import { draftOfOptions, optionsOf, summaryOf } from "../src/console/upstream-options";

const seen = (breaker: TargetState["breaker"], health: TargetState["health"] = "unknown"): TargetState => ({
  target: "",
  breaker,
  health,
  in_flight: 0,
  requests: 0,
  failures: 0,
});
const target = (name: string, state: TargetState | undefined, hold?: Target["hold"]): Target => ({ target: name, hold, seen: state });
/** As the server answers where nobody gave anything. */
const USUAL = { balance: "least_loaded", failures_to_open: 5, success_percent: 50, may_eject_all: false, max_queue: 100, queue_timeout_ms: 1000, retry_percent: 20 } as const;

describe("targets", () => {
  test.each([
    [seen("closed"), undefined, "in use"],
    [seen("closed", "healthy"), undefined, "in use"],
    [seen("closed", "unhealthy"), undefined, "left alone"],
    [seen("open", "healthy"), undefined, "left alone"],
    [seen("probation"), undefined, "on probation"],
    [seen("closed"), "open", "taken out"],
    [seen("forced_closed", "unhealthy"), "closed", "held in"],
    [seen("forced_open"), undefined, "changing"],
    [undefined, undefined, "not seen yet"],
    [undefined, "open", "taken out"],
  ] as const)("%o with hold %s reads as %s", (state, hold, word) => {
    expect(standingOf(target("a", state, hold)).word).toBe(word);
  });

  test("are put together from what is wanted and what is seen, each once", () => {
    const state = [{ ...seen("closed"), target: "b" }];
    const upstream: Upstream = { name: "u", targets: ["a", "b", "a"], options: { forced: [{ target: "a", breaker: "open" }] }, state, version: 1 };
    expect(targetsOf(upstream)).toEqual([target("a", undefined, "open"), target("b", state[0])]);
  });

  test("one that is found by its name is there for each address, and says what is wrong with it", () => {
    const at = (address: string): TargetState => ({ ...seen("closed"), target: "a", address });
    const name = { target: "a", addresses: 2, left_out: 0, stale: true, cause: "timeout", age_seconds: 120 };
    const upstream: Upstream = { name: "u", targets: ["a"], options: {}, state: [at("10.0.0.1:80"), at("10.0.0.2:80")], names: [name], version: 1 };
    expect(targetsOf(upstream).map((one) => one.seen?.address)).toEqual(["10.0.0.1:80", "10.0.0.2:80"]);
    expect(namesSay(upstream)[0]).toMatch(/^a: no name server answered in time\. Its addresses of .* ago are used\.$/);
    expect(namesSay({ ...upstream, names: [{ ...name, stale: false }] })).toEqual([]);
    const [lost] = targetsOf({ ...upstream, state: [], names: [{ ...name, addresses: 0, cause: "no_such_name" }] });
    expect(lost && standingOf(lost)).toEqual({ word: "not found", tone: "bad", says: "There is no such name." });
  });

  test("say how they failed, also in a way that is not known here", () => {
    expect([failureText("connect"), failureText("odd_thing")]).toEqual(["it could not be reached", "odd thing"]);
    expect(healthOf(target("a", seen("closed", "unhealthy"))).word).toBe("unhealthy");
  });

  const well = target("well", seen("closed"));
  const sick = target("sick", seen("open"));
  const out = target("out", seen("closed"), "open");
  const held = target("held", seen("open", "unhealthy"), "closed");

  test("taking one out asks only where it would be felt", () => {
    expect(harmOf([well], well)).toContain("the last one. ");
    expect(harmOf([sick, out], sick)).toContain("the last one. ");
    expect(harmOf([well, sick, out], well)).toContain("the last one that is well");
    for (const all of [[well, held, out], [well, target("new", undefined)]]) expect(harmOf(all, well)).toBeUndefined();
    expect(harmOf([well, sick], sick)).toBeUndefined();
  });

  test("all of them out, or none well, is said", () => {
    expect(alarmOf([out])).toContain("taken out");
    expect(alarmOf([out, sick])).toContain("No target is well");
    for (const all of [[out, well], [sick, held], [target("new", undefined)]]) expect(alarmOf(all)).toBeUndefined();
  });

  test("holding one keeps everything else", () => {
    const options = { ...USUAL, max_in_flight: 3, forced: [{ target: "a", breaker: "open" as const }] };
    expect(holding(options, "b", "closed")).toEqual({ ...options, forced: [...options.forced, { target: "b", breaker: "closed" }] });
    expect(holding(options, "a", "closed").forced).toEqual([{ target: "a", breaker: "closed" }]);
    expect(holding(options, "a", undefined)).toEqual({ ...options, forced: [] });
  });
});

describe("options", () => {
  test("usual values stand in the form as nothing, and are not sent", () => {
    for (const options of [undefined, USUAL]) {
      const draft = draftOfOptions(options);
      expect([...Object.values(draft.numbers), draft.path, draft.check].filter((value) => value !== "")).toEqual(["none"]);
      expect(optionsOf(draft, [])).toEqual({ balance: "least_loaded", may_eject_all: false });
    }
  });

  test("others survive the form, nought included", () => {
    const options = {
      balance: "consistent_hash" as const,
      may_eject_all: true,
      protocol: "http2" as const,
      tls: { ca: "-----BEGIN CERTIFICATE-----\n", server_name: "app.internal", present_certificate: true },
      success_percent: 0,
      max_in_flight: 20,
      total_timeout_ms: 9000,
      health_check: { kind: "http" as const, path: "/ready", unhealthy_after: 1 },
      discovery: { kind: "srv" as const, refresh_seconds_max: 60 },
      proxy_protocol: "v2" as const,
      forced: [{ target: "a", breaker: "open" as const }],
    };
    expect(optionsOf(draftOfOptions({ ...USUAL, ...options }), options.forced)).toEqual(options);
  });

  test("TLS is left out where nothing is said of it", () => {
    const draft = draftOfOptions({ tls: { server_name: "a", present_certificate: false } });
    expect(optionsOf(draft, []).tls).toEqual({ server_name: "a" });
    expect(optionsOf({ ...draft, serverName: " " }, [])).not.toHaveProperty("tls");
  });

  test("a check of connections has no path, and a field that was emptied counts as usual", () => {
    const draft = draftOfOptions({ health_check: { kind: "http", path: "/ready", interval_ms: 100 } });
    draft.checkNumbers.interval_ms = null as unknown as "";
    expect(optionsOf({ ...draft, check: "tcp" }, []).health_check).toEqual({ kind: "tcp" });
    expect(optionsOf({ ...draft, check: "none" }, [])).not.toHaveProperty("health_check");
  });

  test("read as a sentence", () => {
    const upstream = { name: "u", targets: ["a"], options: USUAL, version: 1 };
    expect(summaryOf(upstream)).toBe("No health checks.");
    const options = { ...USUAL, balance: "round_robin" as const, health_check: { kind: "http" as const, path: "/ready", interval_ms: 2500 } };
    expect(summaryOf({ ...upstream, targets: ["a", "b"], options })).toBe("Requests go to one after the other. Checked every 2.5 s at /ready.");
  });
});

test.each([
  [0.04, "0 ms"],
  [4.23, "4.2 ms"],
  [120.4, "120 ms"],
  [999.7, "1 s"],
  [1480, "1.5 s"],
])("%d reads as %s", (ms, text) => expect(milliseconds(ms)).toBe(text));

test("great numbers are grouped", () => expect(formatCount(12_034).replace(/\D/g, " ")).toBe("12 034"));

describe("a list that is looked at again", () => {
  /** Answers when it is told to. */
  function shelf() {
    const asked: { cursor: string | undefined; answer: (items: string[], next?: string) => Promise<void> }[] = [];
    const list = new Listed<string>(
      (cursor) =>
        new Promise((resolve) => {
          const answer = async (items: string[], next?: string): Promise<void> => {
            resolve({ items, ...(next === undefined ? {} : { next_cursor: next }) });
            await new Promise((later) => setTimeout(later));
          };
          asked.push({ cursor, answer });
        }),
    );
    return { list, asked };
  }

  test("keeps as many pages as are shown, and is not seen waiting", async () => {
    const { list, asked } = shelf();
    await asked[0]?.answer(["a"], "1");
    void list.more();
    await asked[1]?.answer(["b"], "2");
    void list.refresh();
    expect(list.busy).toBe(false);
    await asked[2]?.answer(["A"], "1");
    await asked[3]?.answer(["B"], "2");
    expect([asked.length, asked[3]?.cursor, list.items, list.hasMore]).toEqual([4, "1", ["A", "B"], true]);
  });

  test("is not asked twice at once, and whatever else reads counts more", async () => {
    const { list, asked } = shelf();
    void list.refresh();
    expect(asked).toHaveLength(1);
    await asked[0]?.answer(["a"]);
    void list.refresh();
    void list.refresh();
    expect(asked).toHaveLength(2);
    void list.reload();
    await asked[2]?.answer(["new"]);
    await asked[1]?.answer(["old"]);
    expect(list.items).toEqual(["new"]);
  });
});
