// What a page reads from the server, with its waiting and its failure.
import { asProblem, type Problem } from "./api/problem";

/** One thing read from the server. */
export class Loaded<T> {
  data = $state.raw<T>();
  problem = $state.raw<Problem>();
  busy = $state(false);
  readonly #read: () => Promise<T>;
  #round = 0;

  constructor(read: () => Promise<T>) {
    this.#read = read;
    void this.reload();
  }

  /** Reads again. Of two overlapping rounds the later one counts. */
  async reload(): Promise<void> {
    const round = ++this.#round;
    this.busy = true;
    try {
      const data = await this.#read();
      if (round === this.#round) {
        this.data = data;
        this.problem = undefined;
      }
    } catch (thrown) {
      if (round === this.#round) this.problem = asProblem(thrown);
    } finally {
      if (round === this.#round) this.busy = false;
    }
  }
}

export interface Slice<T> {
  items: T[];
  next_cursor?: string;
}

/** A list that is read page by page. */
export class Listed<T> {
  items = $state.raw<T[]>([]);
  problem = $state.raw<Problem>();
  busy = $state(false);
  /** False until the first page came, so that "none" is not said too early. */
  ready = $state(false);
  #cursor = $state<string>();
  readonly #read: (cursor: string | undefined) => Promise<Slice<T>>;
  #round = 0;
  #refreshing = false;

  constructor(read: (cursor: string | undefined) => Promise<Slice<T>>) {
    this.#read = read;
    void this.reload();
  }

  get hasMore(): boolean {
    return this.#cursor !== undefined;
  }

  reload(): Promise<void> {
    return this.#fetch(undefined, () => []);
  }

  more(): Promise<void> {
    return this.#fetch(this.#cursor, () => this.items);
  }

  /** Reads again what is shown, however many pages that is, without a sign of waiting. Anything else that reads comes first. */
  async refresh(): Promise<void> {
    if (this.busy || this.#refreshing) return;
    this.#refreshing = true;
    const round = ++this.#round;
    try {
      const items: T[] = [];
      let cursor: string | undefined;
      do {
        const slice = await this.#read(cursor);
        items.push(...slice.items);
        cursor = slice.next_cursor;
      } while (cursor !== undefined && items.length < this.items.length);
      if (round === this.#round) this.#show(items, cursor);
    } catch (thrown) {
      if (round === this.#round) this.problem = asProblem(thrown);
    } finally {
      this.#refreshing = false;
    }
  }

  async #fetch(cursor: string | undefined, before: () => T[]): Promise<void> {
    const round = ++this.#round;
    this.busy = true;
    try {
      const slice = await this.#read(cursor);
      if (round !== this.#round) return;
      this.#show([...before(), ...slice.items], slice.next_cursor);
    } catch (thrown) {
      if (round === this.#round) this.problem = asProblem(thrown);
    } finally {
      if (round === this.#round) this.busy = false;
    }
  }

  #show(items: T[], cursor: string | undefined): void {
    this.items = items;
    this.#cursor = cursor;
    this.problem = undefined;
    this.ready = true;
  }
}

/** Reads every page of a list that is known to be short, for choices and lookups. */
export async function readAll<T>(read: (cursor: string | undefined) => Promise<Slice<T>>): Promise<T[]> {
  const all: T[] = [];
  let cursor: string | undefined;
  do {
    const slice = await read(cursor);
    all.push(...slice.items);
    cursor = slice.next_cursor;
  } while (cursor !== undefined && all.length < 2000);
  return all;
}

/** Goes through every page of a list, one after the other, keeping none. */
export async function* each<T>(read: (cursor: string | undefined) => Promise<Slice<T>>): AsyncGenerator<T> {
  let cursor: string | undefined;
  do {
    const slice = await read(cursor);
    yield* slice.items;
    cursor = slice.next_cursor;
  } while (cursor !== undefined);
}
