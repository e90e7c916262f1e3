// Names for the ids that lists carry. Read once, and again after a change.
import { api, ask } from "$lib/api/client";
import type { Device, Person } from "$lib/api/types";
import { readAll } from "$lib/load.svelte";

class Directory {
  people = $state.raw<Person[]>([]);
  devices = $state.raw<Device[]>([]);

  /** Failure only costs the names: lists show ids then. */
  async readPeople(): Promise<void> {
    const read = (cursor?: string) => ask(api.GET("/api/v1/people", { params: { query: { limit: 200, cursor } } }));
    this.people = await readAll(read).catch(() => this.people);
  }

  async readDevices(): Promise<void> {
    const read = (cursor?: string) => ask(api.GET("/api/v1/devices", { params: { query: { limit: 200, cursor } } }));
    this.devices = await readAll(read).catch(() => this.devices);
  }

  nameOf(personId: string): string {
    return this.people.find((person) => person.id === personId)?.name ?? personId;
  }

  /** Who is behind an act, in words: `person:<id>`, `token:<id>`, `host:<uid>` or `system:<name>`. */
  actorText(actor: string): string {
    const [kind = "", id = ""] = actor.split(":", 2);
    if (kind === "person") return this.nameOf(id);
    if (kind === "token") return `token …${id.slice(-8)}`;
    return kind === "host" ? `host user ${id}` : `${kind} ${id}`;
  }

  /** Every group that someone is in. */
  get groups(): string[] {
    return [...new Set(this.people.flatMap((person) => person.groups))].sort();
  }
}

export const directory = new Directory();
