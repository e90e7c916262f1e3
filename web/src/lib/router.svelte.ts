// Routing in the URL fragment: `#/certificates?state=active`. The server needs no fallback paths,
// and what stands in the fragment (an invitation) is never sent in a request.
import { tick } from "svelte";

export class Router {
  path = $state("/");
  query = $state(new URLSearchParams());
  /** Counts the pages entered: a page is made anew for each, also when only its query differs. */
  visit = $state(0);

  constructor() {
    this.#read();
    addEventListener("hashchange", () => {
      this.#read();
      this.visit++;
    });
  }

  #read(): void {
    const [path = "", query = ""] = location.hash.replace(/^#/, "").split("?", 2);
    this.path = path.startsWith("/") ? path : "/";
    this.query = new URLSearchParams(query);
  }

  /** Goes to a path, as a link would. */
  go(path: string): void {
    location.hash = path;
  }

  /** Goes to a path without leaving the present one in the history. */
  replace(path: string): void {
    const before = this.path;
    history.replaceState(null, "", `#${path}`);
    this.#read();
    if (this.path !== before) this.visit++;
  }

  /** Changes one value of the query in place; an empty one is taken out. */
  setQuery(name: string, value: string): void {
    const query = new URLSearchParams(this.query);
    if (value === "") query.delete(name);
    else query.set(name, value);
    const text = query.toString();
    this.replace(text === "" ? this.path : `${this.path}?${text}`);
  }

  /** The parts of the path that `:name` stands for, or nothing if the pattern does not fit. */
  match(pattern: string): Record<string, string> | undefined {
    const wanted = pattern.split("/");
    const given = this.path.split("/");
    if (wanted.length !== given.length) return undefined;
    const found: Record<string, string> = {};
    for (const [i, part] of wanted.entries()) {
      const value = given[i] ?? "";
      if (part.startsWith(":") && value !== "") found[part.slice(1)] = decodeURIComponent(value);
      else if (part !== value) return undefined;
    }
    return found;
  }
}

export const router = new Router();

/** Moves the focus to the heading of the page, so that a screen reader says where one is. */
export async function focusHeading(): Promise<void> {
  await tick();
  document.querySelector<HTMLElement>("main h1")?.focus();
}
